//! Transposed convolutions on every kernel, against naive loops.

use quant::QuantizationType;
use quant::kernel::{
    Codes, ConvError, ConvShape, ConvTransposeShape, Epilogue, Images, Kernel, LinearError, Output,
    PackError, PackedConv, PackedConvTranspose, Scratch, Weights,
};
use quant::scheme::{
    Axis, Block, DynamicQuantization, Granularity, Grid, Mapping, QuantParams, Quantization, Range,
    ScaleType,
};
use tests::kernels::{in_pool, kernels, quantization};
use tests::random::Random;

const X_SCALE: f32 = 0.013;

struct Case {
    shape: ConvTransposeShape,
    batch: usize,
    size: [usize; 2],
    x: Vec<i8>,
    zero: i8,
    /// `[out, in / groups, height, width]`
    weights: Vec<i8>,
    weight_zeros: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let groups = [1, 1, 2, 3][random.below(4)];
        let depthwise = random.below(3) == 0;
        let group_in = if depthwise { 1 } else { 1 + random.below(70) };
        let mut pair = |n: usize| [1 + random.below(n), 1 + random.below(n)];
        let (kernel_size, stride, dilation) = (pair(5), pair(4), pair(3));
        let size = [1 + random.below(5), 1 + random.below(20)];
        let output_padding = [0, 1].map(|i| random.below(stride[i].max(dilation[i])));
        let mut shape = ConvTransposeShape {
            in_channels: groups * group_in,
            out_channels: groups * (1 + random.below(9)),
            kernel_size,
            stride,
            padding: [[0; 2]; 2],
            output_padding,
            dilation,
            groups,
        };
        let out = shape.output_size(size).unwrap();
        // Beyond the kernel, too, but not all of the output.
        shape.padding = [0, 1].map(|i| {
            let before = random.below(out[i].min(9));
            [before, random.below((out[i] - before).min(9))]
        });
        Self::new(random, shape, size)
    }

    /// Enough products for three threads.
    fn large(random: &mut Random) -> Self {
        let shape = ConvTransposeShape {
            in_channels: 48,
            out_channels: 33,
            kernel_size: [4, 4],
            stride: [2, 2],
            padding: [[1, 1], [1, 1]],
            output_padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        };
        Self::new(random, shape, [40, 60])
    }

    fn new(random: &mut Random, shape: ConvTransposeShape, size: [usize; 2]) -> Self {
        let batch = 1 + random.below(2);
        let k = shape.in_channels / shape.groups * shape.kernel_size[0] * shape.kernel_size[1];
        let zeros = [0, 1, shape.out_channels][random.below(3)];
        Self {
            x: (0..batch * shape.in_channels * size[0] * size[1]).map(|_| random.code()).collect(),
            zero: random.code(),
            weights: (0..shape.out_channels * k).map(|_| random.code()).collect(),
            weight_zeros: (0..zeros).map(|_| random.code()).collect(),
            scales: (0..shape.out_channels).map(|_| random.unit().abs() + 0.01).collect(),
            bias: (0..shape.out_channels).map(|_| random.unit() * 100.0).collect(),
            shape,
            batch,
            size,
        }
    }

    fn packed(&self, kernel: Kernel) -> PackedConvTranspose {
        let n = self.shape.out_channels;
        let weights = Weights {
            n,
            k: self.weights.len() / n,
            codes: Codes::Bytes(&self.weights),
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales: &self.scales,
            zero_points: &self.weight_zeros,
            minimums: &[],
        };
        PackedConvTranspose::new(kernel, self.shape, &weights).unwrap()
    }

    fn images(&self) -> Images<'_> {
        let params = QuantParams::new(X_SCALE, self.zero).unwrap();
        Images::Codes { codes: &self.x, batch: self.batch, size: self.size, params }
    }

    fn out(&self) -> [usize; 2] {
        self.shape.output_size(self.size).unwrap()
    }

    /// `code - zero point` of a weight.
    fn weight(&self, channel: usize, c: usize, at: [usize; 2]) -> i32 {
        let ConvTransposeShape { in_channels, groups, kernel_size, .. } = self.shape;
        let zero = match &*self.weight_zeros {
            [] => 0,
            [one] => *one,
            each => each[channel],
        };
        let filter = channel * (in_channels / groups) + c;
        let code = self.weights[(filter * kernel_size[0] + at[0]) * kernel_size[1] + at[1]];
        i32::from(code) - i32::from(zero)
    }

    /// The output channels: each input times the kernel, added where it belongs.
    fn sums(&self) -> Vec<i32> {
        let ConvTransposeShape {
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            ..
        } = self.shape;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let [height, width] = self.out();
        let mut sums = vec![0; self.batch * out_channels * height * width];
        let mut add = |image: usize, channel: usize, c: usize, from: [usize; 2], at: [usize; 2]| {
            let to = [0, 1].map(|i| {
                let position = from[i] * stride[i] + at[i] * dilation[i];
                position.checked_sub(padding[i][0]).filter(|to| *to < [height, width][i])
            });
            let [Some(y), Some(x)] = to else { return };
            let plane = image * in_channels + channel / group_out * group_in + c;
            let code = self.x[(plane * self.size[0] + from[0]) * self.size[1] + from[1]];
            sums[((image * out_channels + channel) * height + y) * width + x] +=
                (i32::from(code) - i32::from(self.zero)) * self.weight(channel, c, at);
        };
        for image in 0..self.batch {
            for channel in 0..out_channels {
                for c in 0..group_in {
                    for from in pairs(self.size) {
                        pairs(kernel_size).for_each(|at| add(image, channel, c, from, at));
                    }
                }
            }
        }
        sums
    }

    fn floats(&self, sums: &[i32], x_scale: f32, bias: bool) -> Vec<f32> {
        let [height, width] = self.out();
        let float = |(i, sum): (usize, &i32)| {
            let channel = i / (height * width) % self.shape.out_channels;
            let y = *sum as f32 * (x_scale * self.scales[channel]);
            if bias { y + self.bias[channel] } else { y }
        };
        sums.iter().enumerate().map(float).collect()
    }
}

fn pairs([height, width]: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..height).flat_map(move |y| (0..width).map(move |x| [y, x]))
}

#[test]
fn transposed_convolutions_equal_a_naive_loop() {
    for kernel in kernels() {
        let mut random = Random(17);
        for _ in 0..80 {
            let case = Case::random(&mut random);
            let (weights, expected) = (case.packed(kernel), case.sums());
            let mut scratch = Scratch::new();
            let mut sums = vec![0; expected.len()];
            let (none, output) = (Epilogue::default(), Output::I32(&mut sums));
            kernel.conv_transpose2d(&weights, case.images(), &none, output, &mut scratch).unwrap();
            assert_eq!(sums, expected, "{kernel} {:?} {:?}", case.shape, case.size);

            let relu = |y: f32| if y > 0.0 { y } else { 0.0 };
            let floats: Vec<f32> =
                case.floats(&expected, X_SCALE, true).into_iter().map(relu).collect();
            let epilogue = Epilogue { bias: Some(&case.bias), relu: true };
            let mut out = vec![0.0; expected.len()];
            let output = Output::F32(&mut out);
            kernel
                .conv_transpose2d(&weights, case.images(), &epilogue, output, &mut scratch)
                .unwrap();
            assert_eq!(out, floats, "{kernel} {:?}", case.shape);

            let (mut codes, mut expected) = (vec![0; floats.len()], vec![0; floats.len()]);
            let quantization = quantization(9.0, -100, (-128, 127));
            kernel.quantize(&floats, quantization, &mut expected);
            let output = Output::I8 { codes: &mut codes, quantization };
            kernel
                .conv_transpose2d(&weights, case.images(), &epilogue, output, &mut scratch)
                .unwrap();
            assert_eq!(codes, expected, "{kernel} {:?}", case.shape);
        }
    }
}

/// The other definition: zeros between the pixels of the input, and a kernel that is turned.
#[test]
fn a_transposed_convolution_is_a_convolution_of_the_input_with_zeros_between() {
    let mut random = Random(18);
    let kernel = Kernel::fastest();
    for _ in 0..40 {
        let mut case = Case::random(&mut random);
        // What is cut off is cut off of the convolution, too, so that no padding is negative.
        case.shape.padding = [0, 1].map(|i| {
            let reach = (case.shape.kernel_size[i] - 1) * case.shape.dilation[i];
            case.shape.padding[i].map(|padding| padding.min(reach))
        });
        let ConvTransposeShape { stride, padding, dilation, kernel_size, .. } = case.shape;
        let size = [0, 1].map(|i| (case.size[i] - 1) * stride[i] + 1);
        let mut x = vec![case.zero; case.batch * case.shape.in_channels * size[0] * size[1]];
        for plane in 0..case.batch * case.shape.in_channels {
            for [i, j] in pairs(case.size) {
                x[(plane * size[0] + i * stride[0]) * size[1] + j * stride[1]] =
                    case.x[(plane * case.size[0] + i) * case.size[1] + j];
            }
        }
        let shape = ConvShape {
            in_channels: case.shape.in_channels,
            out_channels: case.shape.out_channels,
            kernel_size,
            stride: [1, 1],
            padding: [0, 1].map(|i| {
                let reach = (kernel_size[i] - 1) * dilation[i];
                [reach - padding[i][0], reach - padding[i][1] + case.shape.output_padding[i]]
            }),
            dilation,
            groups: case.shape.groups,
        };
        let turned: Vec<i8> = case
            .weights
            .chunks(kernel_size[0] * kernel_size[1])
            .flat_map(|filter| filter.iter().rev().copied())
            .collect();
        let n = case.shape.out_channels;
        let weights = Weights {
            n,
            k: turned.len() / n,
            codes: Codes::Bytes(&turned),
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales: &case.scales,
            zero_points: &case.weight_zeros,
            minimums: &[],
        };
        let conv = PackedConv::new(kernel, shape, &weights).unwrap();
        let params = QuantParams::new(X_SCALE, case.zero).unwrap();
        let images = Images::Codes { codes: &x, batch: case.batch, size, params };
        assert_eq!(shape.output_size(size), Some(case.out()));
        let mut by_conv = vec![0; case.sums().len()];
        let mut scratch = Scratch::new();
        let (none, output) = (Epilogue::default(), Output::I32(&mut by_conv));
        kernel.conv2d(&conv, images, &none, output, &mut scratch).unwrap();
        let mut sums = vec![0; by_conv.len()];
        let output = Output::I32(&mut sums);
        let transposed = case.packed(kernel);
        kernel.conv_transpose2d(&transposed, case.images(), &none, output, &mut scratch).unwrap();
        assert_eq!(sums, by_conv, "{:?}", case.shape);
    }
}

#[test]
fn the_sums_of_a_large_transposed_convolution_do_not_depend_on_threads() {
    for kernel in kernels() {
        let case = Case::large(&mut Random(19));
        let (weights, expected) = (case.packed(kernel), case.sums());
        for threads in [1, 2, 3] {
            let mut sums = vec![0; expected.len()];
            let (epilogue, output) = (Epilogue::default(), Output::I32(&mut sums));
            let mut scratch = Scratch::with_threads(threads);
            in_pool(|| {
                kernel.conv_transpose2d(&weights, case.images(), &epilogue, output, &mut scratch)
            })
            .unwrap();
            assert_eq!(sums, expected, "{kernel} {threads}");
        }
    }
}

#[test]
fn float_images_are_quantized_each_by_its_own_range() {
    let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
    let mut random = Random(20);
    for kernel in kernels() {
        let mut case = Case::random(&mut random);
        let mut x: Vec<f32> = case.x.iter().map(|_| random.normal()).collect();
        let (image, batch, size) = (x.len() / case.batch, case.batch, case.size);
        let weights = case.packed(kernel);
        let none = Epilogue::default();
        let mut out = vec![0.0; case.sums().len()];
        let quantization = DynamicQuantization::default();
        let images = Images::Dynamic { values: &x, batch, size, quantization };
        let output = Output::F32(&mut out);
        kernel.conv_transpose2d(&weights, images, &none, output, &mut Scratch::new()).unwrap();
        let last = batch - 1;
        let values = &x[last * image..];
        let params = grid.params(Range::of(values).unwrap()).unwrap();
        case.zero = params.zero_point();
        kernel.quantize(values, Quantization::new(params, grid), &mut case.x[last * image..]);
        let expected = case.floats(&case.sums(), params.scale(), false);
        let start = last * out.len() / batch;
        assert_eq!(out[start..], expected[start..], "{kernel}");

        x[last * image] = f32::NAN;
        let fixed = Quantization::new(params, grid);
        for images in [
            Images::Dynamic { values: &x, batch, size, quantization },
            Images::Static { values: &x, batch, size, quantization: fixed },
        ] {
            let output = Output::F32(&mut out);
            let error = kernel
                .conv_transpose2d(&weights, images, &none, output, &mut Scratch::new())
                .unwrap_err();
            let ConvError::Linear(LinearError::NonFinite(error)) = error else { panic!("{error}") };
            assert_eq!(error.index, last * image);
        }
    }
}

#[test]
fn impossible_transposed_convolutions_are_refused() {
    let good = ConvTransposeShape {
        in_channels: 4,
        out_channels: 2,
        kernel_size: [3, 3],
        stride: [2, 1],
        padding: [[0; 2]; 2],
        output_padding: [0; 2],
        dilation: [1, 1],
        groups: 1,
    };
    const HUGE: usize = usize::MAX;
    assert_eq!(good.output_size([5, 7]), Some([11, 9]));
    for bad in [
        ConvTransposeShape { kernel_size: [0, 3], ..good },
        ConvTransposeShape { stride: [0, 1], ..good },
        ConvTransposeShape { stride: [HUGE, 1], ..good },
        ConvTransposeShape { dilation: [1, 0], ..good },
        ConvTransposeShape { dilation: [1, HUGE], ..good },
        ConvTransposeShape { output_padding: [HUGE, 0], ..good },
        ConvTransposeShape { padding: [[HUGE, HUGE], [0; 2]], ..good },
        ConvTransposeShape { padding: [[0; 2], [5, 4]], ..good },
    ] {
        assert_eq!(bad.output_size([5, 7]), None, "{bad:?}");
    }
    assert_eq!(good.output_size([0, 7]), None);

    let codes = [1; 72];
    let weights = Weights {
        n: 2,
        k: 36,
        codes: Codes::Bytes(&codes),
        granularity: Granularity::PerTensor,
        scales: &[1.0],
        zero_points: &[],
        minimums: &[],
    };
    let kernel = Kernel::fastest();
    let pack = |shape, weights| PackedConvTranspose::new(kernel, shape, &weights).map(drop);
    let bad = ConvTransposeShape { groups: 3, ..good };
    assert_eq!(pack(bad, weights), Err(PackError::Groups { groups: 3, channels: 4 }));
    let bad = ConvTransposeShape { kernel_size: [HUGE, HUGE], ..good };
    assert!(pack(bad, weights).is_err());
    let granularity = Granularity::PerBlock(Block::new(36).unwrap());
    let blocks = Weights { granularity, scales: &[1.0; 2], ..weights };
    assert_eq!(pack(good, blocks), Err(PackError::BlockedConv));
    let minimums = Weights { minimums: &[1.0], ..weights };
    assert_eq!(pack(good, minimums), Err(PackError::MinimumsOfConv));

    let run = |shape, size: [usize; 2], len| {
        let packed = PackedConvTranspose::new(kernel, shape, &weights).unwrap();
        let codes = vec![0; 4 * size[0] * size[1]];
        let images = Images::Codes { codes: &codes, batch: 1, size, params: QuantParams::UNIT };
        let (mut y, none) = (vec![0.0; len], Epilogue::default());
        let output = Output::F32(&mut y);
        kernel.conv_transpose2d(&packed, images, &none, output, &mut Scratch::new())
    };
    assert_eq!(run(good, [1, 2], 2 * 3 * 4), Ok(()));
    let padded = ConvTransposeShape { padding: [[0; 2], [2, 2]], ..good };
    let error = run(padded, [1, 2], 0).unwrap_err();
    assert_eq!(error, ConvError::NoOutput { size: [1, 2] });
    assert_eq!(error.to_string(), "the padding leaves no output for an image of 1 × 2");
    let far = ConvTransposeShape { output_padding: [HUGE / 4, 0], ..good };
    assert!(run(far, [1, 2], 0).is_err());
    let scalar = PackedConvTranspose::new(Kernel::SCALAR, good, &weights).unwrap();
    assert_eq!((scalar.kernel(), scalar.shape()), (Kernel::SCALAR, &good));
    if kernel != Kernel::SCALAR {
        let images =
            Images::Codes { codes: &[0; 8], batch: 1, size: [1, 2], params: QuantParams::UNIT };
        let (none, mut y) = (Epilogue::default(), [0.0; 24]);
        let output = Output::F32(&mut y);
        let error = kernel.conv_transpose2d(&scalar, images, &none, output, &mut Scratch::new());
        assert!(matches!(error, Err(ConvError::Linear(LinearError::OtherKernel { .. }))));
    }
}
