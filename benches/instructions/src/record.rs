//! Counts of instructions, as they are kept in a file of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Counts by kernel and job.
pub(crate) struct Record {
    /// The version of the compiler that built the jobs.
    pub(crate) rustc: String,
    counts: BTreeMap<(String, String), u64>,
}

/// A count on record, and the same count now. Either may be missing.
pub(crate) struct Change {
    then: Option<u64>,
    now: Option<u64>,
}

impl Record {
    pub(crate) fn new(rustc: &str) -> Self {
        Self { rustc: rustc.into(), counts: BTreeMap::new() }
    }

    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut record = Self::new("");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["rustc", version] => record.rustc = version.into(),
                [kernel, job, count] => {
                    let count = count.parse().map_err(|_| format!("no count: `{line}`"))?;
                    record.insert(kernel, job, count);
                }
                _ => return Err(format!("neither a compiler nor a count: `{line}`")),
            }
        }
        Ok(record)
    }

    pub(crate) fn insert(&mut self, kernel: &str, job: &str, count: u64) {
        self.counts.insert((kernel.into(), job.into()), count);
    }

    /// Each kernel and job of this record or of a later one, and what became of its count.
    ///
    /// A kernel of which nothing was counted later is left out: the CPU lacks it.
    pub(crate) fn changes(&self, later: &Self) -> Vec<(String, String, Change)> {
        let kernels: BTreeSet<_> = later.counts.keys().map(|(kernel, _)| kernel).collect();
        let jobs: BTreeSet<_> = self.counts.keys().chain(later.counts.keys()).collect();
        jobs.into_iter()
            .filter(|(kernel, _)| kernels.contains(kernel))
            .map(|job| {
                let change = Change {
                    then: self.counts.get(job).copied(),
                    now: later.counts.get(job).copied(),
                };
                (job.0.clone(), job.1.clone(), change)
            })
            .collect()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Instructions of each job, written by `instructions --record`.")?;
        writeln!(f, "rustc {}", self.rustc)?;
        for ((kernel, job), count) in &self.counts {
            writeln!(f, "{kernel} {job} {count}")?;
        }
        Ok(())
    }
}

impl Change {
    /// Whether the count grew by more than this share of itself, or cannot be compared.
    pub(crate) fn exceeds(&self, tolerance: f64) -> bool {
        self.growth().is_none_or(|growth| growth > tolerance)
    }

    fn growth(&self) -> Option<f64> {
        Some(self.now? as f64 / self.then? as f64 - 1.0)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.now, self.growth()) {
            (Some(now), Some(growth)) => write!(f, "{now:12} {:+8.2} %", growth * 100.0),
            (Some(now), None) => write!(f, "{now:12} not on record"),
            (None, _) => write!(f, "{:>12} on record, but not counted", "-"),
        }
    }
}
