//! Prints, for each image that was held out, the class and the bits of the logits: on a board, through the
//! debugger, and on a host.
#![cfg_attr(target_os = "none", no_std, no_main)]

use mcu::{Network, NetworkError, PIXELS, RECORD, SAMPLES, line};

/// Classifies all images and passes each line to `print`, which says whether that worked.
fn run(mut print: impl FnMut(&[u8]) -> bool) -> Result<bool, NetworkError<'static>> {
    let network = Network::new(RECORD)?;
    for sample in SAMPLES {
        if let Some((pixels, _)) = sample.split_first_chunk::<PIXELS>()
            && !print(&line(&network.logits(pixels)?))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(target_os = "none")]
mod device {
    use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
    use cortex_m_semihosting::hio::hstdout;

    #[cortex_m_rt::entry]
    fn main() -> ! {
        let printed = hstdout().map(|mut out| super::run(|line| out.write_all(line).is_ok()));
        let all = matches!(printed, Ok(Ok(true)));
        loop {
            exit(if all { EXIT_SUCCESS } else { EXIT_FAILURE });
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {
            exit(EXIT_FAILURE);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    use std::io::Write;

    let mut out = std::io::stdout().lock();
    match run(|line| out.write_all(line).is_ok()) {
        Ok(true) => std::process::ExitCode::SUCCESS,
        other => {
            eprintln!("{other:?}");
            std::process::ExitCode::FAILURE
        }
    }
}
