//! Replacing a file in one step.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::shard_names::own_parts;
use crate::record::error::RecordError;

/// The system calls of a replacement, in the order they are made; tests record and fail them.
pub trait Files: Clone {
    /// A file that is open for writing.
    type File: Write + Seek;

    /// Creates a file that is not there yet.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;
    /// Sets a file's permissions.
    fn set_permissions(&self, file: &Self::File, permissions: Permissions) -> io::Result<()>;
    /// Brings a file's content to the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file the name `to`, replacing the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings the names in a directory to the disk.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The operating system.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Files for System {
    type File = File;

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
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

    /// Directories are files on Unix only; elsewhere a rename is all there is.
    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Gives the file at `path` the content that `write` produces, or leaves it as it is.
pub(crate) fn replace<F: Files>(
    files: &F,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let target = Target::find(path)?;
    let mut new = NewFile::beside(files, &target)?;
    write(&mut new)?;
    new.put_in_place(target, Vec::new())
}

/// A file that is being written, and removed when it is dropped, unless it is kept.
pub struct NewFile<F: Files> {
    // Dropped first: its buffer is written to a file that still has a name.
    writer: BufWriter<F::File>,
    temporary: Temporary<F>,
}

impl<F: Files> NewFile<F> {
    /// A file with a name of its own, in the directory that it is to be renamed within.
    pub fn beside(files: &F, target: &Target) -> io::Result<Self> {
        Self::create(files, &target.directory, unique_name)
    }

    /// A file with the first of these names that is not taken.
    fn create(files: &F, directory: &Path, mut name: impl FnMut() -> OsString) -> io::Result<Self> {
        const ATTEMPTS: usize = 100;
        let mut last = io::ErrorKind::AlreadyExists.into();
        for _ in 0..ATTEMPTS {
            let path = directory.join(name());
            match files.create_new(&path) {
                Ok(file) => {
                    let temporary = Temporary { files: files.clone(), path, keep: false };
                    return Ok(Self { writer: BufWriter::new(file), temporary });
                }
                // Left behind by a process that was killed, or made by one on another machine.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// A part of what is to replace the target, under the name that it keeps.
    pub(super) fn part(files: &F, target: &Target, name: &str) -> io::Result<Self> {
        Self::create(files, &target.directory, || name.into())
    }

    /// Brings the file to the disk.
    pub(super) fn settle(self, target: &Target) -> Result<Settled<F>, RecordError> {
        let Self { writer, temporary } = self;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(permissions) = &target.permissions {
            temporary.files.set_permissions(&file, permissions.clone())?;
        }
        temporary.files.sync(&file)?;
        Ok(Settled(temporary))
    }

    /// Gives the file the target's name, once it and its parts are on the disk.
    ///
    /// What the target's parts were, if it had any, is removed then.
    pub fn put_in_place(self, target: Target, parts: Vec<Settled<F>>) -> Result<(), RecordError> {
        let Settled(temporary) = self.settle(&target)?;
        let files = temporary.files.clone();
        if !parts.is_empty() {
            // Their names, before that of the index which has them.
            files.sync_dir(&target.directory)?;
        }
        let old_parts = own_parts(&target.path);
        files.rename(&temporary.path, &target.path)?;
        temporary.keep();
        parts.into_iter().for_each(|Settled(part)| part.keep());
        files.sync_dir(&target.directory)?;
        for part in old_parts {
            // The new record is in its place: a part that cannot be removed is only in the way.
            let _ = files.remove(&part);
        }
        Ok(())
    }
}

/// A file whose content is on the disk; its name is removed when this is dropped.
pub struct Settled<F: Files>(Temporary<F>);

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

/// The file that is to be replaced.
pub struct Target {
    pub(super) path: PathBuf,
    directory: PathBuf,
    /// Those of the file that is there, if one is.
    permissions: Option<Permissions>,
}

impl Target {
    /// Finds the file at `path`, following links; it need not exist.
    pub fn find(path: &Path) -> io::Result<Self> {
        // A link is followed: the file it leads to is what the user means to replace.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let permissions = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Some(metadata.permissions()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file")),
            Err(_) => None,
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Self { path, directory, permissions })
    }
}

/// A name that is removed when it is dropped, unless it is kept.
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
            // Nothing is to be done about a failure, and the reason for being here matters more.
            let _ = self.files.remove(&self.path);
        }
    }
}

/// Short, whatever the name of the file to be replaced: that one may be as long as names can be.
fn unique_name() -> OsString {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(".quant-{}-{number}.tmp", std::process::id()).into()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Cursor;

    use super::*;

    /// Files in memory: what has been asked for, and which request is to fail.
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

        fn create_new(&self, _path: &Path) -> io::Result<Self::File> {
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
                "the content is there before it is brought to the disk"
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

    fn run(files: &Script) -> (Result<(), RecordError>, Vec<&'static str>) {
        let path = Path::new("directory/that/is/not/there/file");
        let result = replace(&files, path, |writer| Ok(writer.write_all(b"new")?));
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
        let result = replace(&&files, Path::new("nowhere/file"), |_| {
            Err(RecordError::BadMagic { found: [0; 8] })
        });
        assert!(matches!(result, Err(RecordError::BadMagic { .. })));
        assert_eq!(files.log.take(), ["create", "remove"]);
    }

    #[test]
    fn a_panic_while_writing_removes_the_new_file() {
        let files = Script::default();
        let panics = std::panic::AssertUnwindSafe(|| {
            replace(&&files, Path::new("nowhere/file"), |_| panic!("in a model's walk"))
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
        assert!(matches!(result, Err(RecordError::Io { .. })));
        assert!(!log.contains(&"remove"));
    }

    #[test]
    fn a_file_in_the_working_directory_has_a_directory() {
        let target = Target::find(Path::new("no-such-file-here")).unwrap();
        assert_eq!(target.directory, Path::new("."));
    }
}
