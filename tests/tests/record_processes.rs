//! Saves that are killed, and saves of several processes to one path.
//!
//! The other processes run this binary for the test `child` alone, with a job in the environment.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use quant::record::{Record, RecordFile, Recorder};
use quant::{BincodeRecorder, Module, RecordError, Tensor};
use tests::random::Random;

const TENSORS: usize = 6;
const ELEMENTS: usize = 5000;

/// A record with this number in every element.
fn record(number: u32) -> Record {
    let values = vec![number as f32; ELEMENTS];
    let tensor = Tensor::from_values(&[ELEMENTS], values).unwrap();
    let mut record: Record = (0..TENSORS).map(|i| (i.to_string(), tensor.clone())).collect();
    record.insert_metadata("number", number.to_string());
    record
}

fn recorder(sharded: bool) -> BincodeRecorder {
    match sharded {
        false => BincodeRecorder::default(),
        true => BincodeRecorder::default().max_shard_size(50_000),
    }
}

/// The number of the complete record at `path`, or `None` if there is no record.
fn number(path: &Path) -> Option<u32> {
    let loaded = match BincodeRecorder::default().load_file(path) {
        Err(RecordError::Io { path: Some(of), source })
            if of == path && source.kind() == std::io::ErrorKind::NotFound =>
        {
            return None;
        }
        loaded => loaded.unwrap_or_else(|error| panic!("{error:?}")),
    };
    let number = loaded.metadata()["number"].parse().unwrap();
    assert!(loaded == record(number), "a mixture of records, with the number {number}");
    Some(number)
}

const JOB: &str = "QUANT_TEST_RECORD_JOB";

/// Starts a process that saves records with these numbers; returns once it is ready.
fn spawn(path: &Path, sharded: bool, numbers: std::ops::Range<u32>) -> Saver {
    let job = format!("{}:{}:{sharded}:{}", numbers.start, numbers.end, path.display());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--include-ignored"])
        .env(JOB, job)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let ready = stdout.by_ref().lines().any(|line| line.unwrap().ends_with("ready"));
    assert!(ready, "the child said nothing");
    Saver { child, _stdout: stdout }
}

/// A process that saves, and its output, which must not be closed.
struct Saver {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

#[ignore = "is run by the other tests"]
#[test]
fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let parts: Vec<&str> = job.splitn(4, ':').collect();
    let [start, end, sharded, path] = parts[..] else { panic!("{job}") };
    let (start, end): (u32, u32) = (start.parse().unwrap(), end.parse().unwrap());
    let (recorder, path) = (recorder(sharded.parse().unwrap()), PathBuf::from(path));
    println!("ready");
    std::io::stdout().flush().unwrap();
    for number in start..end {
        record(number).save_file(&path, &recorder).unwrap();
    }
}

/// Whether a killed process may leave a file with this name behind.
fn is_left_over(name: &str) -> bool {
    name == "model.quant"
        || name.starts_with(".quant-") && name.ends_with(".tmp")
        || name.starts_with("model.quant-") && name.ends_with(".part")
}

/// Kills `kills` processes while they save; the path must always have a complete record.
fn kill(sharded: bool, kills: u32) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    // The time of a few saves, on a loaded machine too.
    let start = std::time::Instant::now();
    for number in 0..4 {
        record(number).save_file(&path, &recorder(sharded)).unwrap();
    }
    let longest = start.elapsed().as_micros().clamp(1000, 50_000) as usize;
    let (mut random, mut numbers) = (Random(u64::from(sharded)), Vec::new());
    for round in 0..kills {
        // Every tenth process starts in an empty directory.
        if round % 10 == 0 {
            for entry in fs::read_dir(directory.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        let Saver { mut child, _stdout } = spawn(&path, sharded, round * 10_000..u32::MAX);
        std::thread::sleep(Duration::from_micros(random.below(longest) as u64));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "killed, and not finished");
        let found = number(&path);
        assert!(found.is_some() || round % 10 == 0 || numbers.last() == Some(&None));
        numbers.push(found);
    }
    for entry in fs::read_dir(directory.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(is_left_over(&name), "{name}");
    }
    // The remaining files do not disturb later saves.
    record(7).save_file(&path, &recorder(sharded)).unwrap();
    assert_eq!(number(&path), Some(7));
    numbers.dedup();
    assert!(numbers.len() > kills as usize / 4, "hardly any save came through: {numbers:?}");
}

#[test]
fn a_killed_save_leaves_a_complete_file() {
    kill(false, 110);
}

#[test]
fn a_killed_sharded_save_leaves_a_complete_record() {
    kill(true, 110);
}

#[test]
fn of_two_processes_that_save_to_one_path_one_wins() {
    for sharded in [[false, false], [true, true], [true, false]] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.quant");
        record(0).save_file(&path, &recorder(sharded[0])).unwrap();
        let mut children = [(1, sharded[0]), (2, sharded[1])]
            .map(|(which, sharded)| spawn(&path, sharded, which * 1000..which * 1000 + 25));
        // In the meantime readers see complete records.
        while children.iter_mut().any(|saver| saver.child.try_wait().unwrap().is_none()) {
            let number = number(&path).expect("there is always one");
            assert!(number == 0 || [1, 2].contains(&(number / 1000)), "{number}");
        }
        for mut saver in children {
            assert!(saver.child.wait().unwrap().success());
        }
        let last = number(&path).unwrap();
        assert!([1024, 2024].contains(&last), "{last}");
        RecordFile::open(&path).unwrap().verify_all().unwrap();
    }
}
