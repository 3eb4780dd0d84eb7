//! Progress on the terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quant::quantize::ByteSize;
use quant_formats::{Checkpoint, Options};

use crate::args::Work;
use crate::error::Failure;
use crate::signals;

/// A progress bar over the values of a checkpoint; it is drawn only on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn over(checkpoint: &Checkpoint) -> Self {
        let entries = checkpoint.entries().iter();
        let bytes = entries.map(|entry| 4 * entry.element_count() as u64).sum();
        let bar =
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(10));
        let style = "{bar:40} {decimal_bytes:>10} of {decimal_total_bytes}  \
                     {decimal_bytes_per_sec}  {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
        Self { bar }
    }

    /// Adds bytes of values in single precision.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A job over a checkpoint that the first signal cancels.
pub(crate) struct Job {
    cancelled: Arc<AtomicBool>,
}

impl Job {
    pub(crate) fn new() -> Self {
        Self { cancelled: signals::cancelled() }
    }

    /// Calls `run` with the options of the arguments, and shows progress.
    pub(crate) fn run<T>(
        &self,
        checkpoint: &Checkpoint,
        work: &Work,
        max_shard_size: Option<ByteSize>,
        run: impl FnOnce(Options<'_>) -> T,
    ) -> T {
        let progress = Progress::over(checkpoint);
        let advance = |_: usize, bytes: u64| progress.advance(bytes);
        let mut options = Options::default();
        options.jobs = work.jobs;
        options.max_memory = work.max_memory.map(|size| size.0);
        options.max_shard_size = max_shard_size.map(|size| size.0);
        options.progress = Some(&advance);
        options.cancelled = Some(&self.cancelled);
        let result = run(options);
        progress.clear();
        result
    }

    /// Fails if a signal has arrived.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }
}
