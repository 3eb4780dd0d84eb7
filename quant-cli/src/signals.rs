//! Control-C and termination.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit code of an interrupted command.
pub(crate) const EXIT_CODE: u8 = 130;

/// A flag that the first signal sets, so that what was written can be removed; the second signal
/// ends the process.
pub(crate) fn cancelled() -> Arc<AtomicBool> {
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        exit_if(signal, &cancelled);
        // Without a handler the signal ends the process, which is as good.
        let _ = flag::register(signal, Arc::clone(&cancelled));
    }
    cancelled
}

/// Makes the first signal end the process: for commands that write no file.
pub(crate) fn exit_at_once() {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        exit_if(signal, &always);
    }
}

fn exit_if(signal: i32, condition: &Arc<AtomicBool>) {
    // Without a handler the signal ends the process, which is as good.
    let _ =
        flag::register_conditional_shutdown(signal, i32::from(EXIT_CODE), Arc::clone(condition));
}
