//! What of an unfinished model directory is written.
//!
//! The first line names the job, and each further line a finished shard. The file is removed at the
//! end: a directory that has it is not complete.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use quant::__private::is_temporary_name;
use quant::quantize::PlannedParam;
use serde::{Deserialize, Serialize};

use crate::error::CheckpointError;
use crate::folder_error::FolderError;

const NAME: &str = ".quant-journal";

/// A finished shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) shard: String,
    pub(super) len: u64,
    pub(super) crc: u32,
    /// What was done to its tensors.
    pub(super) params: Vec<PlannedParam>,
}

#[derive(Serialize, Deserialize)]
struct Job {
    job: String,
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins a job in a directory, which is made if it does not exist, or goes on with it. Returns
    /// the shards that are there and undamaged.
    pub(super) fn open(
        directory: &Path,
        job: &str,
    ) -> Result<(Self, HashMap<String, Finished>), CheckpointError> {
        if let Err(error) = fs::create_dir(directory)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(in_file(directory, error));
        }
        let path = directory.join(NAME);
        let finished = match fs::read_to_string(&path) {
            Ok(text) => Some(
                parse(&text, job)
                    .ok_or_else(|| FolderError::OtherJob { path: directory.into() })?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(in_file(&path, error)),
        };
        let finished = match finished {
            Some(finished) => finished,
            None if is_empty(directory).map_err(|error| in_file(directory, error))? => Vec::new(),
            None => return Err(FolderError::NotEmpty { path: directory.into() }.into()),
        };
        remove_temporaries(directory).map_err(|error| in_file(directory, error))?;
        let intact: Vec<Finished> =
            finished.into_iter().filter(|shard| shard.is_intact(directory)).collect();
        let journal =
            Self::rewrite(path.clone(), job, &intact).map_err(|error| in_file(&path, error))?;
        Ok((journal, intact.into_iter().map(|shard| (shard.shard.clone(), shard)).collect()))
    }

    /// Writes the journal anew, without what a failure may have left of its last line.
    fn rewrite(path: PathBuf, job: &str, finished: &[Finished]) -> io::Result<Self> {
        quant::record::write_file::<io::Error>(&path, |file| {
            write_line(file, &Job { job: job.into() })?;
            finished.iter().try_for_each(|shard| write_line(file, shard))
        })?;
        Ok(Self { file: OpenOptions::new().append(true).open(&path)?, path })
    }

    pub(super) fn add(&mut self, finished: &Finished) -> Result<(), CheckpointError> {
        let added = write_line(&mut self.file, finished).and_then(|()| self.file.sync_data());
        added.map_err(|error| in_file(&self.path, error))
    }

    pub(super) fn remove(self) -> Result<(), CheckpointError> {
        fs::remove_file(&self.path).map_err(|error| in_file(&self.path, error))
    }
}

impl Finished {
    fn is_intact(&self, directory: &Path) -> bool {
        // A journal is a file, too: what it names has to lie in its directory.
        let is_name = !self.shard.contains(['/', '\\']);
        is_name && checksum(&directory.join(&self.shard)).is_ok_and(|it| it == (self.len, self.crc))
    }
}

/// The length and checksum of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let (mut file, mut crc) = (File::open(path)?, crc32fast::Hasher::new());
    let (mut len, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((len, crc.finalize())),
            read => {
                len += read as u64;
                crc.update(&buffer[..read]);
            }
        }
    }
}

/// The finished shards of a journal; `None` if it is that of another job.
fn parse(text: &str, job: &str) -> Option<Vec<Finished>> {
    let mut lines = text.lines();
    let found: Job = serde_json::from_str(lines.next()?).ok()?;
    (found.job == job).then(|| lines.map_while(|line| serde_json::from_str(line).ok()).collect())
}

fn write_line(file: &mut (impl Write + ?Sized), line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// Whether nothing is in a directory but what a process that was killed had not finished.
fn is_empty(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if !is_temporary_name(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the files that a process which was killed had not finished.
fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_temporary_name(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn in_file(path: &Path, error: io::Error) -> CheckpointError {
    CheckpointError::Record(quant::RecordError::from(error).in_file(path))
}
