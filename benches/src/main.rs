//! Side-by-side timings, as JSON.
fn main() {}
