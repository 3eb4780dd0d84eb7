//! Replacing a file in one step: a temporary file is written, brought to the disk, and renamed.
//!
//! Knows nothing of records, so that every file of the workspace is written by the same code.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::record::regular::check_regular;

/// The system calls of a replacement. Tests record them, and let them fail.
pub(crate) trait Files: Clone {
    type File: Write + Seek;

    /// Creates a file that does not exist yet, accessible to no more users than `permissions` allow.
    fn create_new(&self, path: &Path, permissions: Option<&Permissions>) -> io::Result<Self::File>;
    fn set_permissions(&self, file: &Self::File, permissions: Permissions) -> io::Result<()>;
    /// Brings the content of a file to the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings the names in a directory to the disk.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The operating system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Files for System {
    type File = File;

    fn create_new(&self, path: &Path, permissions: Option<&Permissions>) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        restrict(&mut options, permissions);
        options.open(path)
    }

    fn set_permissions(&self, file: &File, permissions: Permissions) -> io::Result<()> {
        file.set_permissions(permissions)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Only Unix can open a directory to sync it.
    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Creates files with at most these permissions; the umask may take some more away.
#[cfg(unix)]
fn restrict(options: &mut OpenOptions, permissions: Option<&Permissions>) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    if let Some(permissions) = permissions {
        options.mode(permissions.mode() & 0o777);
    }
}

#[cfg(not(unix))]
fn restrict(_options: &mut OpenOptions, _permissions: Option<&Permissions>) {}

/// Replaces the file at `path` by what `write` writes, or leaves it as it is after an error.
///
/// `obsolete` gets the path of the file that is replaced, with symbolic links followed, and returns
/// other files to be removed once the new file has its name.
pub(crate) fn replace<F: Files, E: From<io::Error>>(
    files: &F,
    path: &Path,
    obsolete: impl FnOnce(&Path) -> Vec<PathBuf>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let target = Target::find(path)?;
    let mut new = NewFile::beside(files, &target)?;
    write(&mut new)?;
    Ok(new.put_in_place(target, Vec::new(), obsolete)?)
}

/// A file that is being written. Dropping it removes it, unless it has been put in place.
pub(crate) struct NewFile<F: Files> {
    // Dropped first: its buffer is written to a file that still has a name.
    writer: BufWriter<F::File>,
    temporary: Temporary<F>,
}

impl<F: Files> NewFile<F> {
    /// Creates a file with a temporary name in the directory of the target.
    pub(crate) fn beside(files: &F, target: &Target) -> io::Result<Self> {
        Self::create(files, target, temporary_name)
    }

    /// Creates a file with this name in the directory of the target.
    pub(super) fn named(files: &F, target: &Target, name: &str) -> io::Result<Self> {
        Self::create(files, target, || name.into())
    }

    /// Creates a file with the first of the names that is not taken.
    fn create(files: &F, target: &Target, mut name: impl FnMut() -> OsString) -> io::Result<Self> {
        const ATTEMPTS: usize = 100;
        let mut last = io::ErrorKind::AlreadyExists.into();
        for _ in 0..ATTEMPTS {
            let path = target.directory.join(name());
            match files.create_new(&path, target.permissions.as_ref()) {
                Ok(file) => {
                    let temporary = Temporary { files: files.clone(), path, keep: false };
                    return Ok(Self { writer: BufWriter::new(file), temporary });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Brings the file to the disk, with the permissions of the target.
    pub(super) fn sync(self, target: &Target) -> io::Result<Synced<F>> {
        let Self { writer, temporary } = self;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(permissions) = &target.permissions {
            temporary.files.set_permissions(&file, permissions.clone())?;
        }
        temporary.files.sync(&file)?;
        Ok(Synced(temporary))
    }

    /// Renames the file to the target once it and its `companions` are on the disk. Then removes the
    /// files that `obsolete` returned for the path of the target before the renaming.
    pub(crate) fn put_in_place(
        self,
        target: Target,
        companions: Vec<Synced<F>>,
        obsolete: impl FnOnce(&Path) -> Vec<PathBuf>,
    ) -> io::Result<()> {
        let Synced(temporary) = self.sync(&target)?;
        let files = temporary.files.clone();
        if !companions.is_empty() {
            // Their names must be on the disk before the name of the file that refers to them.
            files.sync_dir(&target.directory)?;
        }
        let obsolete = obsolete(&target.path);
        files.rename(&temporary.path, &target.path)?;
        temporary.keep();
        companions.into_iter().for_each(|Synced(companion)| companion.keep());
        files.sync_dir(&target.directory)?;
        for path in obsolete {
            // The new file is in place: a file that cannot be removed only wastes space.
            let _ = files.remove(&path);
        }
        Ok(())
    }
}

/// A file whose content is on the disk. Dropping it removes it.
pub(crate) struct Synced<F: Files>(Temporary<F>);

impl<F: Files> Write for NewFile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl<F: Files> Seek for NewFile<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

/// The file to be replaced, which need not exist.
pub(crate) struct Target {
    pub(super) path: PathBuf,
    directory: PathBuf,
    /// The permissions of the file, if it exists.
    permissions: Option<Permissions>,
}

impl Target {
    /// The file at `path`, or the one that a symbolic link there leads to.
    ///
    /// # Errors
    /// Something other than a regular file is at the path.
    pub(crate) fn find(path: &Path) -> io::Result<Self> {
        let path = follow_links(path)?;
        let permissions = match fs::metadata(&path) {
            Ok(metadata) => {
                check_regular(&metadata)?;
                Some(metadata.permissions())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { path, directory, permissions })
    }
}

/// The path with symbolic links followed, also if they lead to a file that does not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    // Beyond the limits of the systems, which `canonicalize` reports for files that exist.
    const MAX_LINKS: usize = 100;
    let missing = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        found_or_failed => return found_or_failed,
    };
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            // A relative link starts from the directory that it is in.
            Ok(link) => path = path.parent().unwrap_or(Path::new("")).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(missing)
}

/// A name that is removed when this is dropped, unless it is kept.
struct Temporary<F: Files> {
    files: F,
    path: PathBuf,
    keep: bool,
}

impl<F: Files> Temporary<F> {
    fn keep(mut self) {
        self.keep = true;
    }
}

impl<F: Files> Drop for Temporary<F> {
    fn drop(&mut self) {
        if !self.keep {
            // An error is being reported already, and it matters more than this one.
            let _ = self.files.remove(&self.path);
        }
    }
}

/// A name that does not depend on that of the target, which may be as long as names can be.
fn temporary_name() -> OsString {
    format!(".quant-{:016x}.tmp", random()).into()
}

/// Whether a file has such a name: one that was not renamed, because its process was killed.
pub fn is_temporary_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(".quant-") && name.ends_with(".tmp")
}

/// A number that other users cannot predict: the keys of the hash are the system's random numbers.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Cursor;

    use super::*;

    /// Files in memory, with a log of the calls; the call `fail` fails.
    #[derive(Default)]
    struct Script {
        log: RefCell<Vec<&'static str>>,
        fail: Option<&'static str>,
        taken: usize,
    }

    impl Script {
        fn failing(fail: &'static str) -> Self {
            Self { fail: Some(fail), ..Self::default() }
        }

        fn step(&self, name: &'static str) -> io::Result<()> {
            self.log.borrow_mut().push(name);
            if self.fail == Some(name) { Err(io::Error::other(name)) } else { Ok(()) }
        }
    }

    impl Files for &Script {
        type File = Cursor<Vec<u8>>;

        fn create_new(&self, _: &Path, _: Option<&Permissions>) -> io::Result<Self::File> {
            self.step("create")?;
            let created = self.log.borrow().iter().filter(|&&step| step == "create").count();
            if created > self.taken {
                Ok(Cursor::default())
            } else {
                Err(io::ErrorKind::AlreadyExists.into())
            }
        }

        fn set_permissions(&self, _file: &Self::File, _permissions: Permissions) -> io::Result<()> {
            self.step("permissions")
        }

        fn sync(&self, file: &Self::File) -> io::Result<()> {
            assert_eq!(
                file.get_ref(),
                b"new",
                "the content is complete before it is brought to the disk"
            );
            self.step("sync")
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            assert_eq!(from.parent(), to.parent());
            self.step("rename")
        }

        fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
            self.step("sync_dir")
        }

        fn remove(&self, _path: &Path) -> io::Result<()> {
            self.step("remove")
        }
    }

    fn replace_with(
        files: &Script,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        replace(&files, Path::new("no-such-directory/file"), |_| Vec::new(), write)
    }

    fn run(files: &Script) -> (io::Result<()>, Vec<&'static str>) {
        let result = replace_with(files, |writer| writer.write_all(b"new"));
        (result, files.log.take())
    }

    #[test]
    fn content_is_on_the_disk_before_it_gets_the_name() {
        let (result, log) = run(&Script::default());
        assert!(result.is_ok());
        assert_eq!(log, ["create", "sync", "rename", "sync_dir"]);
    }

    #[test]
    fn a_failure_before_the_rename_removes_the_new_file() {
        for (step, made) in [("sync", 2), ("rename", 3)] {
            let (result, log) = run(&Script::failing(step));
            assert!(result.unwrap_err().to_string().contains(step));
            assert_eq!(log.len(), made + 1, "{log:?}");
            assert_eq!(log.last(), Some(&"remove"));
        }
    }

    #[test]
    fn a_failure_after_the_rename_removes_nothing() {
        let (result, log) = run(&Script::failing("sync_dir"));
        assert!(result.is_err());
        assert!(!log.contains(&"remove"));
    }

    #[test]
    fn a_failed_write_removes_the_new_file() {
        let files = Script::default();
        let result = replace_with(&files, |_| Err(io::ErrorKind::InvalidData.into()));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(files.log.take(), ["create", "remove"]);
    }

    #[test]
    fn a_panic_while_writing_removes_the_new_file() {
        let files = Script::default();
        let panics = std::panic::AssertUnwindSafe(|| {
            replace_with(&files, |_| panic!("in the walk of a model"))
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(files.log.take(), ["create", "remove"]);
    }

    #[test]
    fn names_that_are_taken_are_left_alone() {
        let (result, log) = run(&Script { taken: 3, ..Script::default() });
        assert!(result.is_ok());
        assert_eq!(log.iter().filter(|&&step| step == "create").count(), 4);
        let (result, log) = run(&Script { taken: usize::MAX, ..Script::default() });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!log.contains(&"remove"));
    }

    #[test]
    fn a_file_in_the_working_directory_has_a_directory() {
        let target = Target::find(Path::new("no-such-file-here")).unwrap();
        assert_eq!(target.directory, Path::new("."));
    }

    #[test]
    fn temporary_names_are_distinct_and_short() {
        let names: std::collections::HashSet<_> = (0..100).map(|_| temporary_name()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| is_temporary_name(name)));
        assert!(names.iter().all(|name| name.len() == ".quant-0123456789abcdef.tmp".len()));
    }
}
