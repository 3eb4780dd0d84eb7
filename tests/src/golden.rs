//! Reference vectors of other implementations: `golden/*.json`, or files of the same form in the
//! folder that the environment variable `QUANT_GOLDEN_DIR` names.

use std::path::PathBuf;

use serde_json::Value;

/// The rows of a table of a reference file.
///
/// # Panics
/// If the file or the table is missing: a golden test without its vectors has not passed.
pub fn rows(file: &str, table: &str) -> Vec<Value> {
    let folder = std::env::var_os("QUANT_GOLDEN_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden")),
        PathBuf::from,
    );
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file: Value = serde_json::from_str(&text).expect("a golden file is JSON");
    let rows = file[table].as_array().unwrap_or_else(|| panic!("no table {table}")).clone();
    assert!(!rows.is_empty(), "table {table} is empty");
    rows
}

/// A number of a reference file; "inf", "-inf" and "nan" stand for what JSON has not.
///
/// # Panics
/// If the value is no number.
pub fn float(value: &Value) -> f32 {
    match value {
        Value::String(text) => text.parse().expect("a float"),
        value => value.as_f64().expect("a number") as f32,
    }
}

/// The numbers of a list.
///
/// # Panics
/// If the value is no list of numbers.
pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(float).collect()
}

/// An integer of a reference file.
///
/// # Panics
/// If the value is no integer of this type.
pub fn int<T: TryFrom<i64, Error: std::fmt::Debug>>(value: &Value) -> T {
    value.as_i64().expect("an integer").try_into().expect("in range")
}

/// The integers of a list.
///
/// # Panics
/// If the value is no list of integers of this type.
pub fn ints<T: TryFrom<i64, Error: std::fmt::Debug>>(value: &Value) -> Vec<T> {
    value.as_array().expect("a list").iter().map(int).collect()
}

/// How many floats lie between two of one sign, one of them counted.
pub fn ulps(a: f32, b: f32) -> u32 {
    assert!(a.is_sign_positive() == b.is_sign_positive() || a == b, "{a} and {b} differ in sign");
    a.to_bits().abs_diff(b.to_bits())
}
