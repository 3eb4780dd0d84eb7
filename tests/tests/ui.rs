//! What `#[derive(Module)]` says of a wrong declaration: one mistake each, in `ui/<topic>/`.
//!
//! The messages of rustc change with its version: these are those of rustc 1.95.
//! `TRYBUILD=overwrite cargo test -p tests --test ui` writes them anew.

#[test]
fn every_mistake_is_shown_where_it_was_made() {
    let cases = trybuild::TestCases::new();
    for topic in [
        "contradictory",
        "duplicate",
        "field",
        "item",
        "malformed",
        "misplaced",
        "name",
        "scheme",
        "storage",
        "together",
        "unknown",
    ] {
        cases.compile_fail(format!("ui/{topic}/*.rs"));
    }
}
