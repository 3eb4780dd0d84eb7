//! Packed weights of a convolution: a matrix for each group, or, if groups have one input channel, a kernel
//! for each output channel.

use super::shape::ConvShape;
use crate::dispatch::Kernel;
use crate::error::PackError;
use crate::pack::b::PackedWeights;
use crate::pack::weights::{Codes, Weights, check};
use crate::scheme::Granularity;
use alloc::vec;
use alloc::vec::Vec;

/// Weights of a convolution that are packed for one kernel. Other kernels refuse them.
#[derive(Clone, Debug)]
pub struct PackedConv {
    pub(super) shape: ConvShape,
    pub(super) kernel: Kernel,
    pub(super) groups: Groups,
}

#[derive(Clone, Debug)]
pub(super) enum Groups {
    /// One matrix per group.
    Matrices(Vec<PackedWeights>),
    /// One kernel per output channel.
    Depthwise { codes: Vec<i16>, scales: Vec<f32> },
}

impl PackedConv {
    /// Packs weights `[out, in / groups, height, width]`, given as a matrix with one row per output
    /// channel.
    ///
    /// # Errors
    /// - Those of [`PackedWeights::new`].
    /// - A size of the shape is 0, groups do not divide the channels, or the matrix does not have this shape.
    /// - Weights are quantized in blocks, or have minimums.
    pub fn new(kernel: Kernel, shape: ConvShape, weights: &Weights<'_>) -> Result<Self, PackError> {
        check_conv(&shape, weights)?;
        let codes = unpacked(kernel, weights);
        let groups = if shape.group_in() == 1 {
            depthwise(&shape, weights, &codes)
        } else {
            matrices(kernel, &shape, weights, &codes)?
        };
        Ok(Self { shape, kernel, groups })
    }

    /// The shape that the weights are packed for.
    pub const fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// The kernel that these weights are packed for.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }
}

/// Checks that weights fit a shape, and rule 6 for the whole sum.
pub(super) fn check_conv(shape: &ConvShape, weights: &Weights<'_>) -> Result<(), PackError> {
    shape.check()?;
    let k = shape.group_in().saturating_mul(shape.kernel_len());
    if weights.n != shape.out_channels || weights.k != k {
        let (n, found) = (shape.out_channels, weights.n.saturating_mul(weights.k));
        return Err(PackError::CodesLength { n, k, found });
    }
    if matches!(weights.granularity, Granularity::PerBlock(_)) {
        return Err(PackError::BlockedConv);
    }
    if !weights.minimums.is_empty() {
        return Err(PackError::MinimumsOfConv);
    }
    check(weights).map(drop)
}

pub(super) fn unpacked(kernel: Kernel, weights: &Weights<'_>) -> Vec<i8> {
    match weights.codes {
        Codes::Bytes(codes) => codes.to_vec(),
        Codes::Packed(width, packed) => {
            let mut codes = vec![0; weights.n * weights.k];
            let rows = packed.chunks(width.row_bytes(weights.k).max(1));
            for (packed, codes) in rows.zip(codes.chunks_mut(weights.k.max(1))) {
                kernel.unpack(width, packed, codes);
            }
            codes
        }
    }
}

/// The parameter of an output channel.
pub(super) fn of_channel<T: Copy>(
    granularity: Granularity,
    all: &[T],
    channel: usize,
) -> Option<T> {
    let one = granularity == Granularity::PerTensor || all.len() == 1;
    all.get(if one { 0 } else { channel }).copied()
}

fn depthwise(shape: &ConvShape, weights: &Weights<'_>, codes: &[i8]) -> Groups {
    let mut shifted = Vec::with_capacity(codes.len());
    let mut scales = Vec::with_capacity(weights.n);
    for (channel, window) in codes.chunks(shape.kernel_len()).enumerate() {
        let zero = of_channel(weights.granularity, weights.zero_points, channel).unwrap_or(0);
        shifted.extend(window.iter().map(|code| i16::from(*code) - i16::from(zero)));
        scales.push(of_channel(weights.granularity, weights.scales, channel).unwrap_or(1.0));
    }
    Groups::Depthwise { codes: shifted, scales }
}

/// Filters `[channel][position]` as `[position][channel]`.
pub(super) fn by_position(codes: &[i8], channels: usize, positions: usize) -> Vec<i8> {
    let mut ordered = Vec::with_capacity(codes.len());
    for filter in codes.chunks(channels * positions) {
        for at in 0..positions {
            ordered.extend((0..channels).map(|channel| filter[channel * positions + at]));
        }
    }
    ordered
}

/// Matrices whose rows are in the order of im2col rows: kernel position first, then channel.
fn matrices(
    kernel: Kernel,
    shape: &ConvShape,
    weights: &Weights<'_>,
    codes: &[i8],
) -> Result<Groups, PackError> {
    let (channels, window) = (shape.group_in(), shape.kernel_len());
    if window == 1 && shape.groups == 1 {
        return Ok(Groups::Matrices(vec![PackedWeights::new(kernel, weights)?]));
    }
    let ordered = by_position(codes, channels, window);
    let n = shape.group_out();
    let part = |of: usize| if of <= 1 { 0..of } else { 0..n };
    let mut groups = Vec::with_capacity(shape.groups);
    for (group, codes) in ordered.chunks((n * weights.k).max(1)).enumerate() {
        let from = |range: core::ops::Range<usize>, len: usize| {
            if len <= 1 || weights.granularity == Granularity::PerTensor {
                0..len
            } else {
                range.start + group * n..range.end + group * n
            }
        };
        let scales = from(part(weights.scales.len()), weights.scales.len());
        let zeros = from(part(weights.zero_points.len()), weights.zero_points.len());
        let weights = Weights {
            n,
            k: weights.k,
            codes: Codes::Bytes(codes),
            granularity: weights.granularity,
            scales: &weights.scales[scales],
            zero_points: &weights.zero_points[zeros],
            minimums: &[],
        };
        groups.push(PackedWeights::new(kernel, &weights)?);
    }
    Ok(Groups::Matrices(groups))
}
