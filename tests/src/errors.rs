//! Errors as a program shows them.

use std::error::Error;

/// The messages of an error and of its sources, outermost first, separated by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut messages = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        messages = format!("{messages}: {error}");
        inner = error.source();
    }
    messages
}
