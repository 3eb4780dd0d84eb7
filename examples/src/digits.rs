//! Handwritten digits, 8 × 8 pixels each.

use ndarray::{Array1, Array2, ArrayD};

/// 1,797 lines of 64 pixels (0 to 16) and the digit; see `data/README.md`.
const CSV: &str = include_str!("../data/digits.csv");

/// The number of samples that are held out.
const HELD_OUT: usize = 360;

/// Images, one to the row, with pixels from 0 to 1; and the digits they show.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `[n, 64]`
    pub images: ArrayD<f32>,
    /// `[n]`, from 0 to 9.
    pub digits: Array1<usize>,
}

/// The samples to train on, and those held out: always the same, drawn once by a seed.
///
/// # Panics
/// If the data compiled in is not what `data/README.md` says.
pub fn load() -> (Samples, Samples) {
    let mut rows: Vec<Vec<u8>> = CSV.lines().map(parse).collect();
    fastrand::Rng::with_seed(0).shuffle(&mut rows);
    let (held_out, train) = rows.split_at(HELD_OUT);
    (samples(train), samples(held_out))
}

fn parse(line: &str) -> Vec<u8> {
    line.split(',').map(|n| n.parse().expect("the data are small integers")).collect()
}

fn samples(rows: &[Vec<u8>]) -> Samples {
    Samples {
        images: Array2::from_shape_fn((rows.len(), 64), |(i, j)| f32::from(rows[i][j]) / 16.0)
            .into_dyn(),
        digits: rows.iter().map(|row| usize::from(row[64])).collect(),
    }
}
