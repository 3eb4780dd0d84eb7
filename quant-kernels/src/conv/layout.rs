//! A quantized image, laid out for the product group by group: `[height][width][channel]` with its padding,
//! as `code + 128`.

use super::shape::Geometry;
use crate::dispatch::Kernel;
use crate::gemm::epilogue::Epilogue;
use crate::pack::source::Row;

/// A quantized image.
pub(super) struct Image<'a> {
    pub(super) kernel: Kernel,
    pub(super) geometry: &'a Geometry<'a>,
    pub(super) row: Row,
    pub(super) codes: &'a [i8],
    pub(super) epilogue: &'a Epilogue<'a>,
}

impl Image<'_> {
    /// Writes `[height][width][channel]` of a group, with its padding, as `code + 128`.
    pub(super) fn lay_out(&self, group: usize, out: &mut [u8]) {
        let Geometry { shape, input: [height, width], padded, .. } = *self.geometry;
        let channels = shape.group_in();
        let [[top, _], [left, _]] = shape.padding;
        if padded != [height, width] {
            out.fill(self.row.zero as u8);
        }
        let planes = &self.codes[group * channels * height * width..];
        for y in 0..height {
            let start = ((y + top) * padded[1] + left) * channels;
            let out = &mut out[start..start + width * channels];
            interleave(&planes[y * width..], height * width, channels, out);
        }
    }
}

/// Writes rows of `channels` planes, `plane` codes apart, as `[width][channel]`, plus 128. Most of it is
/// transposed in squares of eight.
fn interleave(planes: &[i8], plane: usize, channels: usize, out: &mut [u8]) {
    let width = out.len() / channels;
    if channels == 1 {
        for (out, code) in out.iter_mut().zip(planes) {
            *out = *code as u8 ^ 0x80;
        }
        return;
    }
    let (whole_channels, whole_width) = (channels / 8 * 8, width / 8 * 8);
    for channel in (0..whole_channels).step_by(8) {
        for x in (0..whole_width).step_by(8) {
            let eight = core::array::from_fn(|i| {
                let from = &planes[(channel + i) * plane + x..];
                from.first_chunk()
                    .map_or(0, |codes: &[i8; 8]| u64::from_le_bytes(bytemuck::cast(*codes)))
            });
            for (i, codes) in transposed(eight).into_iter().enumerate() {
                let to = &mut out[(x + i) * channels + channel..][..8];
                to.copy_from_slice(&(codes ^ 0x8080_8080_8080_8080).to_le_bytes());
            }
        }
    }
    for channel in 0..channels {
        let start = if channel < whole_channels { whole_width } else { 0 };
        for x in start..width {
            out[x * channels + channel] = planes[channel * plane + x] as u8 ^ 0x80;
        }
    }
}

/// Transposes eight rows of eight bytes, by exchanges of 1, 2 and 4 bytes.
#[inline(always)]
fn transposed(mut rows: [u64; 8]) -> [u64; 8] {
    for (half, low) in
        [(1, 0x00ff_00ff_00ff_00ff), (2, 0x0000_ffff_0000_ffff), (4, 0x0000_0000_ffff_ffff)]
    {
        for i in (0..8).filter(|i| i & half == 0) {
            let exchanged = (rows[i] >> (8 * half) ^ rows[i + half]) & low;
            rows[i] ^= exchanged << (8 * half);
            rows[i + half] ^= exchanged;
        }
    }
    rows
}
