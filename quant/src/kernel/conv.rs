//! Two-dimensional convolution in integers.
//!
//! An image is quantized as a whole and laid out once as `[group][height][width][channel]`, with
//! its border of padding filled with the zero point, which contributes nothing. A patch is then a
//! few runs of neighbouring codes, and the convolution is the integer product of patches and
//! weights: the patches of a tile are gathered when it is prepared, never all of them at once.
//! Where each group has one input channel (depthwise), there is nothing to multiply as a matrix:
//! those are summed directly, along the width.
//!
//! `y = f32(acc) * (sa * sw) + bias` as in rule 6, where `acc` sums over the input channels of the
//! group and the window, and padding stands for the value 0.

use super::dispatch::{Kernel, Operation};
use super::elementwise::Affine;
use super::error::{ConvError, LinearError, PackError};
use super::isa::Isa;
use super::linear::{Call, Dynamic, Static};
use super::output::{Epilogue, Output, Strides};
use super::rows::{Row, Source, row_of};
use super::threads::{Scratch, grown};
use super::weights::{Codes, PackedWeights, Sharing, Weights};
use crate::scheme::{Grid, NonFinite, QuantizationType, ScaleType};
use alloc::vec;
use alloc::vec::Vec;

/// The shape of a convolution's weights, and how they are moved over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the window.
    pub window: [usize; 2],
    /// Steps of the window, down and to the right.
    pub stride: [usize; 2],
    /// Rows added above and below, columns added left and right.
    pub padding: [usize; 2],
    /// Distance of neighbours in the window.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl ConvShape {
    /// Height and width of the output for an input of this height and width; `None` if the window
    /// does not fit into it.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let reach = self.dilation[i] * (self.window[i] - 1) + 1;
            Some((input[i] + 2 * self.padding[i]).checked_sub(reach)? / self.stride[i] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    fn window_size(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Whether the output of a pixel depends on that pixel alone, and every pixel has one.
    fn is_pointwise(&self) -> bool {
        let ones = [self.window, self.stride];
        ones.as_flattened().iter().all(|of| *of == 1) && self.padding == [0, 0]
    }

    fn padded(&self, input: [usize; 2]) -> [usize; 2] {
        [input[0] + 2 * self.padding[0], input[1] + 2 * self.padding[1]]
    }

    fn check(&self) -> Result<(), PackError> {
        let Self { in_channels, out_channels, groups, .. } = *self;
        if groups == 0 || in_channels % groups != 0 {
            return Err(PackError::Groups { groups, channels: in_channels });
        }
        if out_channels % groups != 0 {
            return Err(PackError::Groups { groups, channels: out_channels });
        }
        let sizes = [self.window, self.stride, self.dilation];
        if sizes.as_flattened().contains(&0) || in_channels == 0 {
            return Err(PackError::EmptyWindow);
        }
        Ok(())
    }
}

/// Weights of a convolution, packed for one kernel.
#[derive(Clone, Debug)]
pub struct PackedConv {
    shape: ConvShape,
    kernel: Kernel,
    groups: Groups,
}

#[derive(Clone, Debug)]
enum Groups {
    /// One matrix per group.
    Matrices(Vec<PackedWeights>),
    /// One window per output channel.
    Windows { codes: Vec<i16>, scales: Vec<f32> },
}

impl PackedConv {
    /// Packs weights `[out, in / groups, height, width]`, given as a matrix with one row per output
    /// channel.
    ///
    /// # Errors
    /// - those of [`PackedWeights::new`];
    /// - the shape has a zero or groups that do not divide the channels, or the matrix is not of
    ///   this shape;
    /// - weights are quantized in blocks.
    pub fn new(kernel: Kernel, shape: ConvShape, weights: &Weights<'_>) -> Result<Self, PackError> {
        shape.check()?;
        let k = shape.group_in() * shape.window_size();
        if weights.n != shape.out_channels || weights.k != k {
            let (n, found) = (shape.out_channels, weights.n * weights.k);
            return Err(PackError::CodesLength { n, k, found });
        }
        if matches!(weights.sharing, Sharing::Block(_)) {
            return Err(PackError::BlockedWindow);
        }
        // Checks everything about the slices, and rule 6 for the whole sum.
        let whole = PackedWeights::new(kernel, weights)?;
        let codes = unpacked(kernel, weights);
        let groups = if shape.group_in() == 1 {
            windows(&shape, weights, &codes)
        } else {
            matrices(kernel, &shape, weights, &codes, whole)?
        };
        Ok(Self { shape, kernel, groups })
    }

    /// The shape.
    pub const fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// The kernel that can use these weights.
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }
}

fn unpacked(kernel: Kernel, weights: &Weights<'_>) -> Vec<i8> {
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
fn of_channel<T: Copy>(sharing: Sharing, all: &[T], channel: usize) -> Option<T> {
    all.get(if sharing == Sharing::Tensor { 0 } else { channel }).copied()
}

fn windows(shape: &ConvShape, weights: &Weights<'_>, codes: &[i8]) -> Groups {
    let mut shifted = Vec::with_capacity(codes.len());
    let mut scales = Vec::with_capacity(weights.n);
    for (channel, window) in codes.chunks(shape.window_size()).enumerate() {
        let zero = of_channel(weights.sharing, weights.zero_points, channel).unwrap_or(0);
        shifted.extend(window.iter().map(|code| i16::from(*code) - i16::from(zero)));
        scales.push(of_channel(weights.sharing, weights.scales, channel).unwrap_or(1.0));
    }
    Groups::Windows { codes: shifted, scales }
}

/// Matrices whose rows are in the order of a patch: window first, then channel.
fn matrices(
    kernel: Kernel,
    shape: &ConvShape,
    weights: &Weights<'_>,
    codes: &[i8],
    whole: PackedWeights,
) -> Result<Groups, PackError> {
    let (channels, window) = (shape.group_in(), shape.window_size());
    if window == 1 && shape.groups == 1 {
        return Ok(Groups::Matrices(vec![whole]));
    }
    let mut ordered = Vec::with_capacity(codes.len());
    for row in codes.chunks(weights.k) {
        for at in 0..window {
            ordered.extend((0..channels).map(|channel| row[channel * window + at]));
        }
    }
    let n = shape.group_out();
    let part = |of: usize| if of <= 1 { 0..of } else { 0..n };
    let mut groups = Vec::with_capacity(shape.groups);
    for (group, codes) in ordered.chunks((n * weights.k).max(1)).enumerate() {
        let from = |range: core::ops::Range<usize>, len: usize| {
            if len <= 1 || weights.sharing == Sharing::Tensor {
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
            sharing: weights.sharing,
            scales: &weights.scales[scales],
            zero_points: &weights.zero_points[zeros],
        };
        groups.push(PackedWeights::new(kernel, &weights)?);
    }
    Ok(Groups::Matrices(groups))
}

/// Images to convolve: `[batch, channel, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a, T> {
    /// The values, row-major.
    pub values: &'a [T],
    /// Images.
    pub batch: usize,
    /// Height and width.
    pub size: [usize; 2],
}

impl Kernel {
    /// Convolves float images that are quantized by their own range, each image by its own if
    /// `dynamic` is per row. The output is `[batch, out channel, height, width]`.
    ///
    /// # Errors
    /// - the weights are packed for another kernel;
    /// - a slice has the wrong length, or the window does not fit into the image;
    /// - a value is NaN or infinite.
    ///
    /// After an error the output is unspecified.
    pub fn conv2d_dynamic(
        self,
        weights: &PackedConv,
        x: Images<'_, f32>,
        dynamic: Dynamic,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let grid = Grid::new(QuantizationType::QInt8, dynamic.mapping, ScaleType::F32);
        let range = if dynamic.per_row {
            None
        } else {
            let (lo, hi) = self.min_max(x.values).map_err(LinearError::from)?;
            Some(row_of(grid, lo, hi))
        };
        let size = weights.shape.in_channels * x.size[0] * x.size[1];
        let (qmin, qmax) = grid.code_range();
        self.conv2d(weights, &x, epilogue, output, scratch, |image, values, codes| {
            let row = match range {
                Some(row) => row,
                None => match self.min_max(values) {
                    Ok((lo, hi)) => row_of(grid, lo, hi),
                    Err(error) => return Err(at_image(error, image * size)),
                },
            };
            self.quantize(values, row.scale, row.zero - 128, qmin, qmax, codes);
            Ok(row)
        })
    }

    /// Convolves float images that are quantized with given parameters.
    ///
    /// # Errors
    /// As [`Kernel::conv2d_dynamic`], but infinite values saturate; NaN is an error.
    pub fn conv2d_static(
        self,
        weights: &PackedConv,
        x: Images<'_, f32>,
        quantization: Static,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let Static { scale, zero_point, range } = quantization;
        let row = Row::new(scale, i32::from(zero_point));
        let (qmin, qmax) = (i32::from(range.0), i32::from(range.1));
        let size = weights.shape.in_channels * x.size[0] * x.size[1];
        self.conv2d(weights, &x, epilogue, output, scratch, |image, values, codes| {
            if let Some(index) = self.first_nan(values) {
                let error = NonFinite { index, value: values[index] };
                return Err(at_image(error, image * size));
            }
            self.quantize(values, row.scale, row.zero - 128, qmin, qmax, codes);
            Ok(row)
        })
    }

    /// Convolves images of codes with one scale and zero point.
    ///
    /// # Errors
    /// As [`Kernel::conv2d_dynamic`], except that every value is good.
    #[allow(clippy::too_many_arguments)]
    pub fn conv2d_i8(
        self,
        weights: &PackedConv,
        x: Images<'_, i8>,
        scale: f32,
        zero_point: i8,
        epilogue: &Epilogue<'_>,
        output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let row = Row::new(scale, i32::from(zero_point));
        self.conv2d(weights, &x, epilogue, output, scratch, |_, values, codes| {
            codes.copy_from_slice(values);
            Ok(row)
        })
    }

    /// `quantize` writes the codes of an image and returns their parameters.
    fn conv2d<T>(
        self,
        weights: &PackedConv,
        x: &Images<'_, T>,
        epilogue: &Epilogue<'_>,
        mut output: Output<'_>,
        scratch: &mut Scratch,
        quantize: impl Fn(usize, &[T], &mut [i8]) -> Result<Row, NonFinite>,
    ) -> Result<(), ConvError> {
        let shape = &weights.shape;
        let geometry = Geometry::new(shape, x.size)?;
        if weights.kernel != self {
            let (packed_for, called) = (weights.kernel.name(), self.name());
            return Err(LinearError::OtherKernel { packed_for, called }.into());
        }
        length("images", x.batch * geometry.image(), x.values.len())?;
        length("output", x.batch * geometry.output(), output.len())?;
        if let Some(bias) = epilogue.bias {
            length("bias", shape.out_channels, bias.len())?;
        }
        let mut codes = core::mem::take(&mut scratch.codes);
        let mut laid_out = core::mem::take(&mut scratch.laid_out);
        let mut result = Ok(());
        for image in 0..x.batch {
            let values = &x.values[image * geometry.image()..][..geometry.image()];
            let codes = grown(&mut codes, geometry.image(), 0);
            let row = match quantize(image, values, codes) {
                Ok(row) => row,
                Err(error) => {
                    result = Err(LinearError::NonFinite(error).into());
                    break;
                }
            };
            let output = output.part(image * geometry.output(), geometry.output());
            let one = Image { kernel: self, geometry: &geometry, row, codes, epilogue };
            let laid_out = &mut laid_out;
            result = match &weights.groups {
                Groups::Matrices(groups) => one.matrices(groups, laid_out, output, scratch),
                Groups::Windows { codes, scales } => {
                    one.windows(codes, scales, laid_out, output);
                    Ok(())
                }
            };
            if result.is_err() {
                break;
            }
        }
        (scratch.codes, scratch.laid_out) = (codes, laid_out);
        result
    }
}

fn at_image(error: NonFinite, start: usize) -> NonFinite {
    NonFinite { index: start + error.index, value: error.value }
}

fn length(of: &'static str, expected: usize, found: usize) -> Result<(), ConvError> {
    Ok(super::linear::length(of, expected, found)?)
}

/// Sizes that follow from the shape and the image.
struct Geometry<'a> {
    shape: &'a ConvShape,
    input: [usize; 2],
    padded: [usize; 2],
    out: [usize; 2],
}

impl<'a> Geometry<'a> {
    fn new(shape: &'a ConvShape, input: [usize; 2]) -> Result<Self, ConvError> {
        let out = shape.output_size(input).ok_or(ConvError::Window { size: input })?;
        Ok(Self { shape, input, padded: shape.padded(input), out })
    }

    fn image(&self) -> usize {
        self.shape.in_channels * self.input[0] * self.input[1]
    }

    fn pixels(&self) -> usize {
        self.out[0] * self.out[1]
    }

    fn output(&self) -> usize {
        self.shape.out_channels * self.pixels()
    }
}

/// One quantized image.
struct Image<'a> {
    kernel: Kernel,
    geometry: &'a Geometry<'a>,
    row: Row,
    codes: &'a [i8],
    epilogue: &'a Epilogue<'a>,
}

impl Image<'_> {
    fn matrices(
        &self,
        groups: &[PackedWeights],
        laid_out: &mut Vec<u8>,
        mut output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let Geometry { shape, padded, .. } = *self.geometry;
        let size = padded[0] * padded[1] * shape.group_in();
        let laid_out = grown(laid_out, size, 0);
        let (pixels, n) = (self.geometry.pixels(), shape.group_out());
        for (group, weights) in groups.iter().enumerate() {
            self.lay_out(group, laid_out);
            let bias = self.epilogue.bias.map(|bias| &bias[group * n..][..n]);
            let epilogue = Epilogue { bias, relu: self.epilogue.relu };
            let strides = Strides { row: 1, column: pixels };
            let (kernel, m) = (self.kernel, pixels);
            let call = Call { kernel, weights, m, epilogue: &epilogue, strides };
            let output = output.part(group * n * pixels, n * pixels);
            if shape.is_pointwise() {
                let source = Pixels { codes: laid_out, channels: shape.group_in(), row: self.row };
                call.run(source, output, scratch)?;
            } else {
                call.run(Patches::new(self.geometry, self.row, laid_out), output, scratch)?;
            }
        }
        Ok(())
    }

    /// `[height][width][channel]` of a group, with its border, unsigned.
    fn lay_out(&self, group: usize, out: &mut [u8]) {
        let Geometry { shape, input: [height, width], padded, .. } = *self.geometry;
        let channels = shape.group_in();
        let [top, left] = shape.padding;
        if top + left > 0 {
            out.fill(self.row.zero as u8);
        }
        let planes = &self.codes[group * channels * height * width..];
        for y in 0..height {
            let start = ((y + top) * padded[1] + left) * channels;
            let out = &mut out[start..start + width * channels];
            interleave(&planes[y * width..], height * width, channels, out);
        }
    }

    fn windows(
        &self,
        windows: &[i16],
        scales: &[f32],
        planes: &mut Vec<u8>,
        mut output: Output<'_>,
    ) {
        let Geometry { shape, padded, .. } = *self.geometry;
        // The last pixels of the last row read beyond it.
        let size = padded[0] * padded[1];
        let plane = grown(planes, size + PIXELS * shape.stride[1], 0);
        let pixels = self.geometry.pixels();
        let per_channel = shape.group_out();
        for (channel, window) in windows.chunks(shape.window_size()).enumerate() {
            if channel % per_channel == 0 {
                self.lay_out(channel / per_channel, &mut plane[..size]);
            }
            self.kernel.run(Window {
                geometry: self.geometry,
                plane,
                window,
                term: window
                    .iter()
                    .fold(0, |term: i32, code| term.wrapping_sub(self.row.zero * i32::from(*code))),
                scale: self.row.scale * scales[channel],
                bias: self.epilogue.bias.map(|bias| bias[channel]),
                relu: self.epilogue.relu,
                output: output.part(channel * pixels, pixels),
            });
        }
    }
}

/// Writes rows of `channels` planes, each `plane` codes after the one before it, as
/// `[width][channel]`, unsigned. In the middle eight of both are transposed at a time.
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

/// Eight rows of eight bytes as columns: quarters of squares are exchanged, of 2, 4 and 8 bytes.
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

/// Pixels of an image as rows of activations.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    codes: &'a [u8],
    channels: usize,
    row: Row,
}

impl Source for Pixels<'_> {
    #[inline(always)]
    fn row(&self, _: impl Isa, _: usize) -> Result<Row, NonFinite> {
        Ok(self.row)
    }

    #[inline(always)]
    fn fill<const N: usize>(&self, of: Row, row: usize, k: usize, codes: &mut [u8; N]) {
        self.fill_part(of, row, k, codes);
    }

    #[inline(always)]
    fn fill_part(&self, _: Row, row: usize, k: usize, codes: &mut [u8]) {
        codes.copy_from_slice(&self.codes[row * self.channels + k..][..codes.len()]);
    }
}

/// Patches of an image as rows of activations, one for each pixel of the output.
#[derive(Clone, Copy)]
struct Patches<'a> {
    codes: &'a [u8],
    row: Row,
    /// Codes that are neighbours in the patch and in the image.
    run: usize,
    /// Runs in a row of the window.
    runs: usize,
    /// From run to run, and from one row of the window to the next.
    steps: [usize; 2],
    /// From patch to patch, and from one row of patches to the next.
    strides: [usize; 2],
    out_width: usize,
}

impl<'a> Patches<'a> {
    fn new(geometry: &Geometry<'_>, row: Row, codes: &'a [u8]) -> Self {
        let Geometry { shape, padded, out, .. } = geometry;
        let channels = shape.group_in();
        let joined = shape.dilation[1] == 1;
        Self {
            codes,
            row,
            run: if joined { channels * shape.window[1] } else { channels },
            runs: if joined { 1 } else { shape.window[1] },
            steps: [shape.dilation[1] * channels, shape.dilation[0] * padded[1] * channels],
            strides: [shape.stride[1] * channels, shape.stride[0] * padded[1] * channels],
            out_width: out[1],
        }
    }
}

impl Source for Patches<'_> {
    #[inline(always)]
    fn row(&self, _: impl Isa, _: usize) -> Result<Row, NonFinite> {
        Ok(self.row)
    }

    #[inline(always)]
    fn fill<const N: usize>(&self, of: Row, row: usize, k: usize, codes: &mut [u8; N]) {
        self.fill_part(of, row, k, codes);
    }

    #[inline(always)]
    fn fill_part(&self, _: Row, row: usize, k: usize, mut codes: &mut [u8]) {
        let (y, x) = (row / self.out_width, row % self.out_width);
        let patch = y * self.strides[1] + x * self.strides[0];
        let (mut run, mut skip) = (k / self.run, k % self.run);
        while !codes.is_empty() {
            let (down, right) = (run / self.runs, run % self.runs);
            let start = patch + down * self.steps[1] + right * self.steps[0] + skip;
            let len = codes.len().min(self.run - skip);
            let (now, later) = codes.split_at_mut(len);
            now.copy_from_slice(&self.codes[start..start + len]);
            (codes, run, skip) = (later, run + 1, 0);
        }
    }
}

/// Pixels of a row that are summed at a time: a vector of AVX-512. The last ones of a row may be
/// too many, and read what follows.
const PIXELS: usize = 16;

/// One channel of a depthwise convolution.
struct Window<'a> {
    geometry: &'a Geometry<'a>,
    plane: &'a [u8],
    window: &'a [i16],
    /// `-za · Σ w`.
    term: i32,
    /// `sa * sw`.
    scale: f32,
    bias: Option<f32>,
    relu: bool,
    output: Output<'a>,
}

impl Operation for Window<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let [height, width] = self.geometry.out;
        for y in 0..height {
            for x in (0..width).step_by(PIXELS) {
                // The last pixels go together with some before them, which are done again.
                let x = x.min(width.saturating_sub(PIXELS));
                let sums = match self.geometry.shape.stride[1] {
                    1 => self.sums::<1>(y, x),
                    2 => self.sums::<2>(y, x),
                    _ => self.sums::<0>(y, x),
                };
                self.finish(isa, sums, y * width + x, PIXELS.min(width - x));
            }
        }
    }
}

impl Window<'_> {
    /// Sums for neighbouring pixels, `STRIDE` apart in the plane (0: known at run time only).
    ///
    /// `Σ (a - za) · w = Σ a · w - za · Σ w`.
    #[inline(always)]
    fn sums<const STRIDE: usize>(&self, y: usize, x: usize) -> [i32; PIXELS] {
        let Geometry { shape, padded, .. } = self.geometry;
        let stride = if STRIDE == 0 { shape.stride[1] } else { STRIDE };
        let mut sums = [self.term; PIXELS];
        for (i, weights) in self.window.chunks(shape.window[1]).enumerate() {
            let row = y * shape.stride[0] + i * shape.dilation[0];
            for (j, weight) in weights.iter().enumerate() {
                let start = row * padded[1] + x * stride + j * shape.dilation[1];
                let codes = &self.plane[start..start + PIXELS * stride];
                for i in 0..PIXELS {
                    let product = i32::from(codes[i * stride]) * i32::from(*weight);
                    // The sum fits, what it passes on the way may not.
                    sums[i] = sums[i].wrapping_add(product);
                }
            }
        }
        sums
    }

    /// Writes the first `count` of some neighbours.
    #[inline(always)]
    fn finish<I: Isa>(&mut self, isa: I, sums: [i32; PIXELS], start: usize, count: usize) {
        if let Output::Sums(out) = &mut self.output {
            return write(out, start, &sums, count);
        }
        let mut values = [0.0; PIXELS];
        for at in (0..PIXELS).step_by(I::LANES) {
            let lanes = at..at + I::LANES;
            let sums = isa.to_floats(isa.load_sums(&sums[lanes.clone()]));
            let mut scaled = isa.mul(sums, isa.splat(self.scale));
            if let Some(bias) = self.bias {
                scaled = isa.add(scaled, isa.splat(bias));
            }
            if self.relu {
                scaled = isa.relu(scaled);
            }
            isa.store(scaled, &mut values[lanes]);
        }
        match &mut self.output {
            Output::F32(out) => write(out, start, &values, count),
            Output::I8 { codes: out, scale, zero_point, range } => {
                let [zero_point, qmin, qmax] = [*zero_point, range.0, range.1].map(i32::from);
                let mut codes = [0; PIXELS];
                Affine::new(*scale, zero_point, qmin, qmax).codes(&values, &mut codes);
                write(out, start, &codes, count);
            }
            Output::Sums(_) => {}
        }
    }
}

/// A copy of a length that is known when compiled, where it can be.
#[inline(always)]
fn write<T: Copy>(out: &mut [T], start: usize, values: &[T; PIXELS], count: usize) {
    if count == PIXELS {
        out[start..start + PIXELS].copy_from_slice(values);
    } else {
        out[start..start + count].copy_from_slice(&values[..count]);
    }
}
