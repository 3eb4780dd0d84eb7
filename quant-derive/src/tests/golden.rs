//! Expansions held in `golden/`: `<case>.rs` is the item, `<case>.expanded.rs` what is written for
//! it. `UPDATE_GOLDEN=1 cargo test -p quant-derive` writes them anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::expand;

fn path(case: &str, suffix: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/golden");
    folder.join(format!("{case}{suffix}"))
}

fn expansion(case: &str) -> String {
    let item = fs::read_to_string(path(case, ".rs")).unwrap();
    prettyplease::unparse(&expand(&item))
}

/// Compares an expansion with the one held, or holds it.
fn check(case: &str) {
    let (path, found) = (path(case, ".expanded.rs"), expansion(case));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&path, found).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, held, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

macro_rules! cases {
    ($($case:ident)*) => {$(
        #[test]
        fn $case() {
            check(stringify!($case));
        }
    )*};
}

cases! {
    alias
    directives
    empty_enum
    every_kind_of_variant
    generics
    mistakes
    other_crate
    recursive
    three_layers
    tuple_struct
    unit_struct
}

/// The promise of the documentation, in the lines of `rustc -Zunpretty=expanded`, is 30; see the
/// `downstream` test for those. The lines here are a little longer.
#[test]
fn three_layers_take_few_lines() {
    assert!(expansion("three_layers").lines().count() <= 24);
}
