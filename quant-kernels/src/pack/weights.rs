//! Quantized weights as they are stored, and the checks before they are packed.

use crate::bits::BitWidth;
use crate::dispatch::Kernel;
use crate::error::PackError;
use crate::scheme::Granularity;

/// Quantized weights as they are stored: `[n, k]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The number of outputs.
    pub n: usize,
    /// The number of inputs.
    pub k: usize,
    /// `n` rows of `k` codes.
    pub codes: Codes<'a>,
    /// Which codes share a scale and a zero point; channels are rows, [`Axis::FIRST`](crate::scheme::Axis::FIRST).
    pub granularity: Granularity,
    /// One scale per tensor, per row, or per block of each row (row-major).
    pub scales: &'a [f32],
    /// As many zero points, or one for all codes; empty if all are zero.
    pub zero_points: &'a [i8],
    /// As many minimums (rule 13); empty if there are none.
    ///
    /// With minimums, a code stands for `f32(code - zero point) * scale + minimum`. Where the least code of `b`
    /// bits is that of the minimum, which is rule 13, the zero point is `-2^(b-1)`.
    pub minimums: &'a [f32],
}

/// Codes of a matrix.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// One byte each.
    Bytes(&'a [i8]),
    /// Packed; every row starts on a byte boundary.
    Packed(BitWidth, &'a [u8]),
}

/// The length of the blocks of weights along K, whatever K is; `None` if they have none.
pub(crate) fn block_of(weights: &Weights<'_>) -> Option<usize> {
    match weights.granularity {
        Granularity::PerBlock(block) => Some(block.len()),
        _ => None,
    }
}

/// Checks lengths and limits. Returns the length of a segment.
pub(crate) fn check(weights: &Weights<'_>) -> Result<usize, PackError> {
    let &Weights { n, k, codes, granularity, scales, zero_points, minimums } = weights;
    let (expected, found) = match codes {
        Codes::Bytes(codes) => (n.checked_mul(k), codes.len()),
        Codes::Packed(width, codes) => (n.checked_mul(width.row_bytes(k)), codes.len()),
    };
    if expected != Some(found) {
        return Err(PackError::CodesLength { n, k, found });
    }
    let (segment, params) = match granularity {
        Granularity::PerTensor => (k.max(1), 1),
        Granularity::PerChannel(axis) if axis.resolve(2) == Some(0) => (k.max(1), n),
        Granularity::PerChannel(axis) => return Err(PackError::Axis { axis }),
        // Cannot overflow: with rows, `k` is at most four times the number of bytes.
        Granularity::PerBlock(block) => {
            (block.len().min(k.max(1)), n.saturating_mul(k.div_ceil(block.len())))
        }
    };
    if scales.len() != params {
        return Err(PackError::ScalesLength { expected: params, found: scales.len() });
    }
    if zero_points.len() > 1 && zero_points.len() != params {
        return Err(PackError::ZeroPointsLength { expected: params, found: zero_points.len() });
    }
    if !minimums.is_empty() && minimums.len() != params {
        return Err(PackError::MinimumsLength { expected: params, found: minimums.len() });
    }
    let half = match codes {
        Codes::Bytes(_) => 128,
        Codes::Packed(width, _) => 1 << (width.bits() - 1),
    };
    let reach =
        |zero: &i8| (-half - i32::from(*zero)).abs().max((half - 1 - i32::from(*zero)).abs());
    let reach = zero_points.iter().map(reach).max().unwrap_or(half) as usize;
    let limit = i32::MAX as usize / (255 * reach);
    if segment > limit {
        return Err(PackError::TooLong { k: segment, limit });
    }
    Ok(segment)
}

pub(crate) fn unpack_row(weights: &Weights<'_>, n: usize, row: &mut [i8]) {
    let k = weights.k;
    match weights.codes {
        Codes::Bytes(codes) => row.copy_from_slice(&codes[n * k..][..k]),
        Codes::Packed(width, codes) => {
            let bytes = width.row_bytes(k);
            Kernel::SCALAR.unpack(width, &codes[n * bytes..][..bytes], row);
        }
    }
}
