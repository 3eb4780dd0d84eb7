//! What this machine can do at most: the instructions the kernels are made of, and its memory.

use crate::measure::{Report, Subject};
use std::hint::black_box;

/// Larger than any cache here.
const BYTES: usize = 256 << 20;

pub(crate) fn run(report: &Report) {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            memory(report, threads);
            instructions(report, threads);
        });
    }
}

/// Runs the same on every thread.
fn each(threads: usize, work: impl Fn(usize) + Sync) {
    rayon::scope(|scope| {
        for thread in 1..threads {
            let work = &work;
            scope.spawn(move |_| work(thread));
        }
        work(0);
    });
}

fn memory(report: &Report, threads: usize) {
    let from = vec![1u64; BYTES / 8];
    let mut to = vec![0u64; BYTES / 8];
    let share = from.len() / threads;
    let mut subjects = vec![
        Subject::new("read", || {
            each(threads, |i| {
                black_box(sum(&from[i * share..][..share]));
            });
        })
        .work("gb_per_s", BYTES as f64),
        Subject::new("copy", || {
            rayon::scope(|scope| {
                for (from, to) in from.chunks(share).zip(to.chunks_mut(share)) {
                    scope.spawn(move |_| to.copy_from_slice(from));
                }
            });
        })
        .work("gb_per_s", BYTES as f64),
    ];
    report.rows("limits", "memory", threads, 9, &mut subjects);
}

/// Sixteen independent sums, so that reading is all that takes time.
fn sum(values: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    for values in values.as_chunks::<16>().0 {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions(_: &Report, _: usize) {
    eprintln!("no instruction limits are measured on this architecture");
}

#[cfg(target_arch = "x86_64")]
fn instructions(report: &Report, threads: usize) {
    use x86_64::{CALLS, LIMITS};
    let mut subjects = Vec::new();
    for limit in LIMITS {
        let Some(run) = (limit.find)() else {
            eprintln!("SKIPPED: this CPU lacks what `{}` needs", limit.name);
            continue;
        };
        let operations = (2 * limit.products * CALLS * threads) as f64;
        let subject = Subject::new(limit.name, move || each(threads, |_| run()));
        subjects.push(subject.work("gops", operations));
    }
    report.rows("limits", "instructions", threads, 9, &mut subjects);
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Rounds of a loop.
    pub(super) const CALLS: usize = 100_000;

    pub(super) struct Limit {
        pub(super) name: &'static str,
        /// Products of a round.
        pub(super) products: usize,
        pub(super) find: fn() -> Option<fn()>,
    }

    /// A loop over independent chains of an instruction; `$step` is one link.
    macro_rules! limit {
        ($name:ident, $($feature:tt),+; $chains:literal x $vector:ty; $zero:expr; $step:expr) => {
            pub(super) fn $name() -> Option<fn()> {
                $(#[target_feature(enable = $feature)])+
                fn chains() {
                    let (a, b) = (black_box($zero), black_box($zero));
                    let step: fn($vector, $vector, $vector) -> $vector;
                    let _ = &a;
                    let mut sums: [$vector; $chains] = [$zero; $chains];
                    for _ in 0..CALLS {
                        for sum in &mut sums {
                            *sum = $step(*sum, a, b);
                        }
                        // Keeps the compiler from computing the rounds in its head.
                        std::hint::black_box(());
                    }
                    black_box(sums);
                }
                let found = $(std::arch::is_x86_feature_detected!($feature))&&+;
                // SAFETY: every feature that `chains` enables was just found.
                found.then_some(|| unsafe { chains() })
            }
        };
    }
    pub(super) const LIMITS: [Limit; 0] = [];
}
