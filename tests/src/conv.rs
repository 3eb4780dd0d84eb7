//! Codes to convolve, and what convolutions of them must give, for the tests of both kinds.

use crate::kernels::{in_pool, packed_rows, quantization};
use crate::random::Random;
use quant::QuantizationType;
use quant::kernel::{
    BitWidth, Codes, ConvError, Epilogue, Images, Kernel, LinearError, Output, Scratch, Weights,
};
use quant::scheme::{
    Axis, DynamicQuantization, Granularity, Grid, Mapping, QuantParams, Quantization, Range,
    ScaleType,
};

/// The scale of the images.
const X_SCALE: f32 = 0.013;

/// Images and weights of a convolution.
#[derive(Clone)]
pub struct Operands {
    /// The number of images.
    pub batch: usize,
    /// Height and width of an image.
    pub size: [usize; 2],
    /// `[batch, in channel, height, width]`
    pub x: Vec<i8>,
    /// The zero point of the images.
    pub zero: i8,
    /// `[out channel, in channel of the group, height, width]`
    pub weights: Vec<i8>,
    /// None, one, or one for each output channel.
    pub weight_zeros: Vec<i8>,
    /// One for each output channel.
    pub scales: Vec<f32>,
    /// One for each output channel.
    pub bias: Vec<f32>,
    /// The bits of a weight, if it is packed.
    pub width: Option<BitWidth>,
}

impl Operands {
    /// Images of this size, and weights with filters of `k` elements.
    pub fn random(
        random: &mut Random,
        [in_channels, out_channels]: [usize; 2],
        size: [usize; 2],
        k: usize,
    ) -> Self {
        let batch = 1 + random.below(2);
        let zeros = [0, 1, out_channels][random.below(3)];
        Self {
            x: (0..batch * in_channels * size[0] * size[1]).map(|_| random.code()).collect(),
            zero: random.code(),
            weights: (0..out_channels * k).map(|_| random.code()).collect(),
            weight_zeros: (0..zeros).map(|_| random.code()).collect(),
            scales: (0..out_channels).map(|_| random.unit().abs() + 0.01).collect(),
            bias: (0..out_channels).map(|_| random.unit() * 100.0).collect(),
            width: None,
            batch,
            size,
        }
    }

    /// Calls `pack` with the weights.
    pub fn with_weights<T>(&self, pack: impl FnOnce(&Weights<'_>) -> T) -> T {
        let n = self.scales.len();
        let k = self.weights.len() / n;
        let bytes = self.width.map(|width| packed_rows(Kernel::SCALAR, width, &self.weights, k));
        let codes = match (self.width, &bytes) {
            (Some(width), Some(bytes)) => Codes::Packed(width, bytes),
            _ => Codes::Bytes(&self.weights),
        };
        pack(&Weights {
            n,
            k,
            codes,
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales: &self.scales,
            zero_points: &self.weight_zeros,
            minimums: &[],
        })
    }

    /// The images as codes.
    pub fn images(&self) -> Images<'_> {
        let params = QuantParams::new(X_SCALE, self.zero).expect("a normal scale");
        Images::Codes { codes: &self.x, batch: self.batch, size: self.size, params }
    }

    /// The zero point of the weights of an output channel.
    pub fn weight_zero(&self, channel: usize) -> i32 {
        let at = if self.weight_zeros.len() == 1 { 0 } else { channel };
        self.weight_zeros.get(at).copied().unwrap_or(0).into()
    }

    /// `code - zero point` of a pixel of the images.
    pub fn pixel(&self, plane: usize, [row, column]: [usize; 2]) -> i32 {
        let code = self.x[(plane * self.size[0] + row) * self.size[1] + column];
        i32::from(code) - i32::from(self.zero)
    }

    /// What sums become by rule 6.
    pub fn floats(&self, sums: &[i32], x_scale: f32, bias: bool) -> Vec<f32> {
        let pixels = sums.len() / (self.batch * self.scales.len());
        let float = |(i, sum): (usize, &i32)| {
            let channel = i / pixels % self.scales.len();
            let y = *sum as f32 * (x_scale * self.scales[channel]);
            if bias { y + self.bias[channel] } else { y }
        };
        sums.iter().enumerate().map(float).collect()
    }
}

/// A convolution with packed weights.
pub type Run = Box<
    dyn Fn(Images<'_>, &Epilogue<'_>, Output<'_>, &mut Scratch) -> Result<(), ConvError>
        + Send
        + Sync,
>;

/// A convolution of either kind.
pub trait Convolution {
    /// Its images and weights.
    fn operands(&mut self) -> &mut Operands;

    /// The sums, `[batch, out channel, height, width]`, by a naive loop.
    fn sums(&self) -> Vec<i32>;

    /// Packs the weights for a kernel.
    fn packed(&self, kernel: Kernel) -> Run;
}

/// Checks every kind of output of codes against the sums.
pub fn check_outputs(case: &mut impl Convolution, kernel: Kernel) {
    let (expected, packed) = (case.sums(), case.packed(kernel));
    let operands = case.operands();
    let mut scratch = Scratch::new();
    let mut run = |epilogue: &Epilogue<'_>, output: Output<'_>| {
        packed(operands.images(), epilogue, output, &mut scratch).expect("operands that fit");
    };
    let mut sums = vec![0; expected.len()];
    run(&Epilogue::default(), Output::I32(&mut sums));
    assert_eq!(sums, expected, "{kernel}");

    let relu = |y: f32| if y > 0.0 { y } else { 0.0 };
    let floats = operands.floats(&expected, X_SCALE, true).into_iter().map(relu);
    let floats: Vec<f32> = floats.collect();
    let epilogue = Epilogue { bias: Some(&operands.bias), relu: true };
    let mut out = vec![0.0; floats.len()];
    run(&epilogue, Output::F32(&mut out));
    assert_eq!(out, floats, "{kernel}");

    let (mut codes, mut expected) = (vec![0; floats.len()], vec![0; floats.len()]);
    let quantization = quantization(9.0, -100, (-128, 127));
    kernel.quantize(&floats, quantization, &mut expected);
    run(&epilogue, Output::I8 { codes: &mut codes, quantization });
    assert_eq!(codes, expected, "{kernel}");
}

/// Checks the sums on one to three threads.
pub fn check_threads(case: &mut impl Convolution, kernel: Kernel) {
    let (expected, packed) = (case.sums(), case.packed(kernel));
    let images = case.operands().images();
    for threads in [1, 2, 3] {
        let mut sums = vec![0; expected.len()];
        let (none, output) = (Epilogue::default(), Output::I32(&mut sums));
        let mut scratch = Scratch::with_threads(threads);
        in_pool(|| packed(images, &none, output, &mut scratch)).expect("operands that fit");
        assert_eq!(sums, expected, "{kernel} {threads}");
    }
}

/// Replaces the images by floats, and checks that each is quantized by the range that it has. Then a NaN is
/// refused, with its position.
pub fn check_ranges(case: &mut impl Convolution, kernel: Kernel, random: &mut Random) {
    let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
    let (mut out, packed) = (vec![0.0; case.sums().len()], case.packed(kernel));
    let operands = case.operands();
    let mut x: Vec<f32> = operands.x.iter().map(|_| random.normal()).collect();
    let (image, batch, size) = (x.len() / operands.batch, operands.batch, operands.size);
    let none = Epilogue::default();
    let quantization = DynamicQuantization::default();
    let images = Images::Dynamic { values: &x, batch, size, quantization };
    packed(images, &none, Output::F32(&mut out), &mut Scratch::new()).expect("finite values");

    let last = (batch - 1) * image;
    let values = &x[last..];
    let params = grid.params(Range::of(values).expect("some")).expect("a range");
    operands.zero = params.zero_point();
    kernel.quantize(values, Quantization::new(params, grid), &mut operands.x[last..]);
    let sums = case.sums();
    let expected = case.operands().floats(&sums, params.scale(), false);
    let start = (batch - 1) * out.len() / batch;
    for (y, expected) in out[start..].iter().zip(&expected[start..]) {
        assert_eq!(y.to_bits(), expected.to_bits(), "{kernel}");
    }

    let at = last + random.below(image);
    x[at] = f32::NAN;
    let fixed = Quantization::new(params, grid);
    for images in [
        Images::Dynamic { values: &x, batch, size, quantization },
        Images::Static { values: &x, batch, size, quantization: fixed },
    ] {
        let result = packed(images, &none, Output::F32(&mut out), &mut Scratch::new());
        let Err(ConvError::Linear(LinearError::NonFinite(error))) = result else {
            panic!("{kernel}: {result:?}")
        };
        assert_eq!(error.index, at);
    }
}
