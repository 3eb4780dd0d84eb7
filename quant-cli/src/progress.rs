//! Progress on the terminal.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quant_formats::{Checkpoint, Options};

use crate::args::Work;
use crate::signals;

/// A bar on the terminal, if there is one.
pub(crate) struct Progress {
    bar: ProgressBar,
    cancelled: Arc<AtomicBool>,
}

impl Progress {
    /// Progress over all values of a checkpoint.
    pub(crate) fn over(checkpoint: &dyn Checkpoint) -> Self {
        let entries = checkpoint.entries().iter();
        let bytes = entries.map(|entry| 4 * entry.element_count() as u64).sum();
        // Draws only on a terminal, and so does nothing in a pipe.
        let bar =
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(10));
        let style = "{bar:40} {bytes:>10} of {total_bytes}  {bytes_per_sec}  {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
        Self { bar, cancelled: signals::cancelled() }
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Runs something with these options.
    pub(crate) fn run<T>(
        &self,
        work: &Work,
        max_part_size: Option<u64>,
        run: impl FnOnce(Options<'_>) -> T,
    ) -> T {
        let advance = |_: usize, bytes: u64| self.advance(bytes);
        let mut options = Options::default();
        options.jobs = work.jobs;
        options.max_memory = work.max_memory;
        options.max_part_size = max_part_size;
        options.progress = Some(&advance);
        options.cancelled = Some(&self.cancelled);
        let result = run(options);
        self.clear();
        result
    }
}
