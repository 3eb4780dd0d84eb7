//! Atomic replacement of files, as other crates use it.

use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::atomic::{NewFile, System, Target, replace};
use super::shard_names::own_shards;

/// A file that takes the place of another one in one step.
///
/// Until [`commit`](Self::commit) returns, the path has its old content, or no file; afterwards it has
/// the new content, also if the machine fails. Dropping the file without committing it leaves
/// nothing behind.
///
/// The file keeps the permissions of the old one and is never accessible to more users. A symbolic
/// link at the path is followed. If the old file is the index of a sharded record, its shards are
/// removed.
///
/// ```
/// use std::io::Write;
///
/// use quant::record::AtomicFile;
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-atomic-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("names.txt");
/// let mut file = AtomicFile::create(&path)?;
/// file.write_all(b"layers.0.weight\n")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"layers.0.weight\n");
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a file that is not committed is removed"]
pub struct AtomicFile {
    file: NewFile<System>,
    target: Target,
}

impl AtomicFile {
    /// Begins a file that is to replace the one at `path`.
    ///
    /// # Errors
    /// The directory is not writable, or the path is that of something other than a regular file.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let target = Target::find(path.as_ref())?;
        Ok(Self { file: NewFile::beside(&System, &target)?, target })
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// After an error the old file is unchanged, unless the last step failed, which brings the new
    /// name to the disk.
    pub fn commit(self) -> io::Result<()> {
        self.file.put_in_place(self.target, Vec::new(), own_shards)
    }
}

impl fmt::Debug for AtomicFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicFile").field("path", &self.target.path).finish_non_exhaustive()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Replaces the file at `path` by what `write` writes, as an [`AtomicFile`]; a character device or
/// FIFO, such as `/dev/stdout`, is written to directly.
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("quant-doc-write-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("names.txt");
/// quant::record::write_file(&path, |writer| writeln!(writer, "layers.0.weight"))?;
/// assert_eq!(std::fs::read(&path)?, b"layers.0.weight\n");
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Those of `write`, and those of [`AtomicFile`]: the old file is unchanged then.
pub fn write_file<E: From<io::Error>>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    if is_stream(path) {
        let mut writer = BufWriter::new(open_stream(path)?);
        write(&mut writer)?;
        return Ok(writer.flush()?);
    }
    replace(&System, path, own_shards, write)
}

/// Whether the path is that of a character device or FIFO.
#[cfg(unix)]
fn is_stream(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let stream = |metadata: std::fs::Metadata| {
        metadata.file_type().is_char_device() || metadata.file_type().is_fifo()
    };
    std::fs::metadata(path).is_ok_and(stream)
}

#[cfg(not(unix))]
fn is_stream(_path: &Path) -> bool {
    false
}

fn open_stream(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}
