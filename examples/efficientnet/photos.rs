//! Photographs, and what a model says of them.

use std::path::Path;

use ndarray::{Array4, ArrayD, Axis};
use ndarray_npy::ReadNpyError;

/// Photographs of `prepare.py`, `[photographs, height, width, 3]` of bytes, as the model takes them:
/// `[photographs, 3, height, width]`, from -1 to 1.
///
/// # Errors
/// A file that is missing, or is not of this form.
pub fn read_photos(path: &Path) -> Result<ArrayD<f32>, ReadNpyError> {
    let bytes: Array4<u8> = ndarray_npy::read_npy(path)?;
    let photos = bytes.mapv(|byte| (f32::from(byte) - 127.0) / 128.0);
    Ok(photos.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned().into_dyn())
}

/// The most likely class of each row of scores, and its probability.
pub fn most_likely(scores: &ArrayD<f32>) -> Vec<(usize, f32)> {
    let of_row = |row: ndarray::ArrayViewD<'_, f32>| {
        let (class, &greatest) = row
            .iter()
            .enumerate()
            .fold((0, &f32::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best });
        let sum: f32 = row.iter().map(|score| (score - greatest).exp()).sum();
        (class, 1.0 / sum)
    };
    scores.axis_iter(Axis(0)).map(of_row).collect()
}
