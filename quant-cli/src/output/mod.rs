//! What commands print and write.

mod json;
mod size;
mod table;

use std::path::Path;

pub(crate) use json::json;
pub(crate) use size::{bytes, parse_bytes};
pub(crate) use table::Table;

use crate::error::Failure;

/// `22.7 M`
pub(crate) fn count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} G", count as f64 / 1e9),
    }
}

/// `384×1536`
pub(crate) fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// `31.2 dB`
pub(crate) fn decibels(sqnr: Option<f64>) -> String {
    sqnr.map_or("exact".into(), |db| format!("{db:.1} dB"))
}

/// Three significant digits, in as few characters as that takes.
pub(crate) fn value(value: f32) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v.is_finite() && !(1e-3..1e5).contains(&v) => format!("{value:.2e}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Replaces a file in one step.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    quant::record::write_file(path, |writer| writer.write_all(content))
        .map_err(|error| Failure::file(path, error))
}
