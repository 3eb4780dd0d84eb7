//! What this machine can do at most: the instructions the kernels are made of, and its memory.
//!
//! A loop here does what a product does in its inner loop, loads included, with everything in the
//! first-level cache and nothing before or after it.

use crate::measure::{Report, Subject};
use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::time::Instant;

/// Larger than any cache here.
const BYTES: usize = 256 << 20;

/// Rates for a number of threads.
pub(crate) struct Limits {
    threads: usize,
    /// Reading memory, in bytes per second.
    pub(crate) read: f64,
    /// Operations per second, by loop.
    loops: Vec<(&'static str, f64)>,
}

impl Limits {
    /// Of the loop that a kernel's integer products are made of: 8-bit codes, those of real weights
    /// or any.
    pub(crate) fn of(&self, kernel: &str, any: bool) -> Option<f64> {
        let name = match (kernel, any) {
            ("avx2", false) => FOURS,
            ("avx2", true) => CROSSED,
            ("avx512-vnni", _) => VNNI,
            _ => return None,
        };
        self.loops.iter().find(|of| of.0 == name).map(|of| of.1)
    }

    pub(crate) fn for_threads(all: &[Self], threads: usize) -> &Self {
        all.iter().find(|of| of.threads == threads).expect("measured for 1 and 2 threads")
    }
}

/// Two steps of four products are summed in i16 before they are widened (exact in an order).
const FOURS: &str = "vpmaddubsw, four in i16 (exact in order)";
/// Products of sums of activations and codes (exact).
const CROSSED: &str = "vpmaddwd of sums, widening (exact)";
const VNNI: &str = "vpdpbusd, 512 bits (exact)";

pub(crate) fn run(report: &Report) -> Vec<Limits> {
    [1, 2]
        .into_iter()
        .map(|threads| Limits {
            threads,
            read: memory(report, threads),
            loops: instructions(report, threads),
        })
        .collect()
}

/// Runs the same on every thread; returns the seconds from the moment all of them are there to the
/// moment the last one is done, so that waking threads is not measured.
fn each(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        barrier.wait();
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    let spans = std::thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = (1..threads).map(|i| scope.spawn(move || run(i))).collect();
        let mut spans = vec![run(0)];
        spans.extend(others.into_iter().map(|thread| thread.join().expect("no thread panics")));
        spans
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    start.zip(end).map_or(0.0, |(start, end)| (end - start).as_secs_f64())
}

/// Bytes read per second.
fn memory(report: &Report, threads: usize) -> f64 {
    let from = vec![1u64; BYTES / 8];
    let mut to = vec![0u64; BYTES / 8];
    let share = from.len() / threads;
    let mut subjects = vec![
        Subject::timed("read", || {
            each(threads, |i| {
                black_box(sum(&from[i * share..][..share]));
            })
        })
        .work("gb_per_s", BYTES as f64),
        Subject::timed("copy", || {
            let parts: Vec<_> = to.chunks_mut(share).map(Mutex::new).collect();
            each(threads, |i| {
                let mut to = parts[i].lock().expect("no thread panics");
                to.copy_from_slice(&from[i * share..][..share]);
            })
        })
        .work("gb_per_s", BYTES as f64),
    ];
    let seconds = report.rows("limits", "memory", threads, 9, &mut subjects);
    BYTES as f64 / seconds[0]
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
fn instructions(_: &Report, _: usize) -> Vec<(&'static str, f64)> {
    eprintln!("no instruction limits are measured on this architecture");
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn instructions(report: &Report, threads: usize) -> Vec<(&'static str, f64)> {
    use x86_64::{CALLS, LIMITS};
    let (mut subjects, mut operations) = (Vec::new(), Vec::new());
    for limit in LIMITS {
        let Some(run) = (limit.find)() else {
            eprintln!("SKIPPED: this CPU lacks what `{}` needs", limit.name);
            continue;
        };
        let count = (2 * limit.products * CALLS * threads) as f64;
        let subject = Subject::timed(limit.name, move || each(threads, |_| run()));
        subjects.push(subject.work("gops", count));
        operations.push((limit.name, count));
    }
    let seconds = report.rows("limits", "instructions", threads, 9, &mut subjects);
    let rates = operations.into_iter().zip(seconds);
    rates.map(|((name, count), seconds)| (name, count / seconds)).collect()
}

/// Loops that do what the products do, with everything in the first-level cache.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{CROSSED, FOURS, VNNI};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Lines in a call.
    pub(super) const CALLS: usize = 20_000;

    /// Steps of a line.
    const STEPS: usize = 16;

    pub(super) struct Limit {
        pub(super) name: &'static str,
        /// Products of a line.
        pub(super) products: usize,
        pub(super) find: fn() -> Option<fn()>,
    }

    /// A tile of `rows` broadcasts and two vectors, one line after the other.
    macro_rules! tile {
        ($name:ident, $($feature:tt),+; $rows:literal, $vector:ty, $zero:expr, $broadcast:expr, $step:expr) => {
            fn $name() -> Option<fn()> {
                $(#[target_feature(enable = $feature)])+
                fn lines() {
                    let a = [[0x0101_0101; STEPS]; $rows];
                    let b = [[$zero; 2]; STEPS];
                    let mut sums = [[$zero; 2]; $rows];
                    for _ in 0..CALLS {
                        let (a, b) = (black_box(&a), black_box(&b));
                        for s in 0..STEPS {
                            for r in 0..$rows {
                                let value: $vector = $broadcast(a[r][s]);
                                sums[r][0] = $step(sums[r][0], value, b[s][0]);
                                sums[r][1] = $step(sums[r][1], value, b[s][1]);
                            }
                        }
                    }
                    black_box(sums);
                }
                // SAFETY: it is called only where every feature that `lines` enables was found.
                let run: fn() = || unsafe { lines() };
                let found = $(std::arch::is_x86_feature_detected!($feature))&&+;
                found.then_some(run)
            }
        };
    }

    /// The same with two steps together.
    macro_rules! double_tile {
        ($name:ident; $rows:literal, $codes:ty, $load:expr, $step:expr) => {
            fn $name() -> Option<fn()> {
                #[target_feature(enable = "avx2")]
                fn lines() {
                    let a = [[0x0101_0101; STEPS]; $rows];
                    let b = [[<$codes>::default(); 2]; STEPS];
                    let mut sums = [[_mm256_setzero_si256(); 2]; $rows];
                    for _ in 0..CALLS {
                        let (a, b) = (black_box(&a), black_box(&b));
                        for (s, [first, second]) in b.as_chunks().0.iter().enumerate() {
                            let first = [$load(&first[0]), $load(&first[1])];
                            let second = [$load(&second[0]), $load(&second[1])];
                            for r in 0..$rows {
                                let values = [
                                    _mm256_set1_epi32(a[r][2 * s]),
                                    _mm256_set1_epi32(a[r][2 * s + 1]),
                                ];
                                for v in 0..2 {
                                    let wide = $step(values, first[v], second[v]);
                                    sums[r][v] = _mm256_add_epi32(sums[r][v], wide);
                                }
                            }
                        }
                    }
                    black_box(sums);
                }
                // SAFETY: it is called only where the feature that `lines` enables was found.
                let run: fn() = || unsafe { lines() };
                std::arch::is_x86_feature_detected!("avx2").then_some(run)
            }
        };
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(codes: &[u64; 4]) -> __m256i {
        // SAFETY: the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load_wide(codes: &[u64; 2]) -> __m256i {
        // SAFETY: the reference is to the 16 bytes that are read.
        _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn fours(a: [__m256i; 2], first: __m256i, second: __m256i) -> __m256i {
        let (first, second) =
            (_mm256_maddubs_epi16(a[0], first), _mm256_maddubs_epi16(a[1], second));
        _mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(1))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn crossed(a: [__m256i; 2], first: __m256i, second: __m256i) -> __m256i {
        _mm256_madd_epi16(_mm256_add_epi16(a[0], second), _mm256_add_epi16(a[1], first))
    }

    macro_rules! madd {
        ($sum:expr, $a:expr, $b:expr) => {
            _mm256_add_epi32($sum, _mm256_madd_epi16($a, $b))
        };
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn wide(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        madd!(sum, a, b)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn bytes(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        madd!(sum, _mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn few_bits(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b))
    }

    #[target_feature(enable = "avx2", enable = "fma")]
    #[inline]
    fn fma(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        let [sum, a, b] = [sum, a, b].map(|v| _mm256_castsi256_ps(v));
        _mm256_castps_si256(_mm256_fmadd_ps(a, b, sum))
    }

    tile!(tile_wide, "avx2"; 5, __m256i, _mm256_setzero_si256(), _mm256_set1_epi32, wide);
    tile!(tile_bytes, "avx2"; 5, __m256i, _mm256_setzero_si256(), _mm256_set1_epi32, bytes);
    double_tile!(tile_fours; 4, [u64; 4], load, fours);
    double_tile!(tile_crossed; 4, [u64; 2], load_wide, crossed);
    tile!(tile_few_bits, "avx2"; 5, __m256i, _mm256_setzero_si256(), _mm256_set1_epi32, few_bits);
    tile!(tile_fma, "avx2", "fma"; 5, __m256i, _mm256_setzero_si256(), _mm256_set1_epi32, fma);
    tile!(tile_vnni, "avx512f", "avx512vnni"; 12, __m512i, _mm512_setzero_si512(),
        _mm512_set1_epi32, _mm512_dpbusd_epi32);

    pub(super) const LIMITS: [Limit; 7] = [
        Limit { name: "f32 fma, 256 bits", products: 5 * 2 * STEPS * 8, find: tile_fma },
        Limit { name: "vpmaddwd, 256 bits (exact)", products: 5 * 2 * STEPS * 16, find: tile_wide },
        Limit {
            name: "vpmaddubsw, 256 bits (saturates)",
            products: 5 * 2 * STEPS * 32,
            find: tile_bytes,
        },
        Limit { name: FOURS, products: 4 * 2 * STEPS * 32, find: tile_fours },
        Limit { name: CROSSED, products: 4 * 2 * STEPS * 16, find: tile_crossed },
        Limit {
            name: "vpmaddubsw in i16 (exact, 4 bits)",
            products: 5 * 2 * STEPS * 32,
            find: tile_few_bits,
        },
        Limit { name: VNNI, products: 12 * 2 * STEPS * 64, find: tile_vnni },
    ];
}
