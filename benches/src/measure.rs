//! Timing of several subjects in turns, so that whatever else the machine does hits all of them.
//!
//! Each sample follows calls that are not timed: otherwise a subject would read what the one before
//! it has pushed out of the caches, and share the machine with threads of that one which still look
//! for work. (Where weights are to come from memory, a subject cycles through copies.)

use std::time::Instant;

/// Something to time.
pub(crate) struct Subject<'a> {
    name: String,
    /// Runs so many times; returns the seconds of one.
    run: Box<dyn FnMut(usize) -> f64 + 'a>,
    exact: Option<bool>,
    /// Parts of what is possible, by name: the seconds that it would take at the limit.
    limits: Vec<(&'static str, f64)>,
    /// The speed in relation to another subject of the same call, by its index.
    beside: Option<(&'static str, usize)>,
    /// Operations (2 · multiply-accumulates) or bytes per call, in 1e9.
    work: Option<(&'static str, f64)>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(name: impl Into<String>, mut run: impl FnMut() + 'a) -> Self {
        let run = move |calls: usize| {
            let start = Instant::now();
            for _ in 0..calls {
                run();
            }
            start.elapsed().as_secs_f64() / calls as f64
        };
        Self::of(name.into(), Box::new(run))
    }

    /// A subject that knows better when its work starts and ends: it returns the seconds.
    pub(crate) fn timed(name: impl Into<String>, mut run: impl FnMut() -> f64 + 'a) -> Self {
        let run = move |calls: usize| (0..calls).map(|_| run()).fold(f64::INFINITY, f64::min);
        Self::of(name.into(), Box::new(run))
    }

    fn of(name: String, run: Box<dyn FnMut(usize) -> f64 + 'a>) -> Self {
        Self { name, run, exact: None, limits: Vec::new(), beside: None, work: None }
    }

    pub(crate) fn exact(mut self, exact: bool) -> Self {
        self.exact = Some(exact);
        self
    }

    /// The row says which part of a limit was reached, at which a call would take so many seconds.
    pub(crate) fn limit(mut self, name: &'static str, seconds: f64) -> Self {
        self.limits.push((name, seconds));
        self
    }

    /// The row says how fast this is in relation to the subject with this index.
    pub(crate) fn beside(mut self, name: &'static str, index: usize) -> Self {
        self.beside = Some((name, index));
        self
    }

    /// The row says how many of these were done in a second.
    pub(crate) fn work(mut self, unit: &'static str, amount: f64) -> Self {
        self.work = Some((unit, amount * 1e-9));
        self
    }
}

/// Where the rows go.
pub(crate) struct Report {
    json: bool,
}

/// A subject that is faster than this is called several times per sample.
const SHORTEST_SAMPLE: f64 = 5e-4;

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Times the subjects in `rounds` turns and writes one row each; returns the least seconds.
    pub(crate) fn rows(
        &self,
        bench: &str,
        case: &str,
        threads: usize,
        rounds: usize,
        subjects: &mut [Subject<'_>],
    ) -> Vec<f64> {
        let calls: Vec<usize> = subjects.iter_mut().map(|subject| warm_up(subject)).collect();
        let mut samples = vec![Vec::with_capacity(rounds); subjects.len()];
        for _ in 0..rounds {
            for ((subject, calls), samples) in subjects.iter_mut().zip(&calls).zip(&mut samples) {
                settle(subject);
                samples.push((subject.run)(*calls));
            }
        }
        for samples in &mut samples {
            samples.sort_by(f64::total_cmp);
        }
        for subject in subjects.iter_mut() {
            if let Some((name, index)) = subject.beside {
                subject.limits.push((name, samples[index][0]));
            }
        }
        for (subject, samples) in subjects.iter().zip(&samples) {
            self.row(bench, case, threads, subject, samples[0], samples[samples.len() / 2]);
        }
        samples.iter().map(|samples| samples[0]).collect()
    }

    fn row(
        &self,
        bench: &str,
        case: &str,
        threads: usize,
        of: &Subject<'_>,
        min: f64,
        median: f64,
    ) {
        let mut more = String::new();
        if let Some((unit, amount)) = of.work {
            more += &format!(",\"{unit}\":{:.2}", amount / min);
        }
        for (name, seconds) in &of.limits {
            more += &format!(",\"{name}\":{:.3}", seconds / min);
        }
        if let Some(exact) = of.exact {
            more += &format!(",\"exact\":{exact}");
        }
        let name = &of.name;
        if self.json {
            println!(
                "{{\"bench\":\"{bench}\",\"case\":\"{case}\",\"threads\":{threads},\"subject\":\"{name}\",\"min_s\":{min:.9},\"median_s\":{median:.9}{more}}}"
            );
        } else {
            let (min, median) = (min * 1e6, median * 1e6);
            println!(
                "{bench:8} {case:20} {threads} {name:32} {min:10.1} µs {median:10.1} µs {more}"
            );
        }
    }
}

/// How long idle threads of a pool look for work before they sleep: those of rayon for 20 µs, those of
/// candle for milliseconds, in which the next subject would have one core less.
const SETTLING: f64 = 5e-3;

fn settle(subject: &mut Subject<'_>) {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < SETTLING {
        (subject.run)(1);
    }
}

/// Runs a subject until its speed is known; returns how many calls make a sample.
fn warm_up(subject: &mut Subject<'_>) -> usize {
    (subject.run)(1);
    let least = (0..3).map(|_| (subject.run)(1)).fold(f64::INFINITY, f64::min);
    (SHORTEST_SAMPLE / least).ceil().clamp(1.0, 1000.0) as usize
}
