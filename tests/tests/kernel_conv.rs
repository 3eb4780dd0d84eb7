//! Convolutions and lookups on every kernel, against naive loops.

use quant::QuantizationType;
use quant::kernel::{
    BitWidth, Codes, ConvError, ConvShape, EmbeddingWeights, Epilogue, Images, Kernel, LinearError,
    LookupError, Output, PackError, PackedConv, Scratch, Weights,
};
use quant::scheme::{
    Axis, Block, DynamicGranularity, DynamicQuantization, Granularity, QuantParams, Quantization,
};
use quant::scheme::{Grid, Mapping, Range, ScaleType};
use tests::kernels::{in_pool, kernels, packed_rows, quantization};
use tests::random::Random;

struct Case {
    shape: ConvShape,
    width: Option<BitWidth>,
    batch: usize,
    size: [usize; 2],
    x: Vec<i8>,
    zero: i8,
    weights: Vec<i8>,
    weight_zeros: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

const X_SCALE: f32 = 0.013;

/// A padding of its own for each side.
fn sides(random: &mut Random) -> [[usize; 2]; 2] {
    core::array::from_fn(|_| core::array::from_fn(|_| random.below(3)))
}

impl Case {
    /// Enough products for three threads, in each of two groups.
    fn large(random: &mut Random) -> Self {
        let shape = ConvShape {
            in_channels: 24,
            out_channels: 80,
            kernel_size: [3, 3],
            stride: [1, 2],
            padding: [[1, 1], [1, 1]],
            dilation: [1, 1],
            groups: 2,
        };
        Self::new(random, shape, [31, 62])
    }

    fn random(random: &mut Random) -> Self {
        let groups = [1, 1, 2, 3][random.below(4)];
        let depthwise = random.below(3) == 0;
        let group_in = if depthwise { 1 } else { 1 + random.below(9) };
        let pair = |random: &mut Random, n: usize| [1 + random.below(n), 1 + random.below(n)];
        let shape = ConvShape {
            in_channels: groups * group_in,
            out_channels: groups * (1 + random.below(if depthwise { 2 } else { 20 })),
            kernel_size: pair(random, 4),
            stride: pair(random, 3),
            padding: sides(random),
            dilation: pair(random, 2),
            groups,
        };
        let size = [7 + random.below(9), 7 + random.below(80)];
        Self::new(random, shape, size)
    }

    /// Windows of one pixel, whose codes of few bits stay packed.
    fn packed_pixels(random: &mut Random, width: BitWidth) -> Self {
        let pair = |random: &mut Random, n: usize| [1 + random.below(n), 1 + random.below(n)];
        let shape = ConvShape {
            in_channels: 1 + random.below(150),
            out_channels: 1 + random.below(40),
            kernel_size: [1, 1],
            stride: pair(random, 2),
            padding: sides(random),
            dilation: [1, 1],
            groups: 1,
        };
        let size = pair(random, 9);
        let mut case = Self::new(random, shape, size);
        case.width = Some(width);
        for code in case.weights.iter_mut().chain(&mut case.weight_zeros) {
            *code >>= 8 - width.bits();
        }
        case
    }

    fn new(random: &mut Random, shape: ConvShape, size: [usize; 2]) -> Self {
        let batch = 1 + random.below(2);
        let k = shape.in_channels / shape.groups * shape.kernel_size[0] * shape.kernel_size[1];
        let zeros = if random.below(2) == 0 { 0 } else { shape.out_channels };
        Self {
            x: (0..batch * shape.in_channels * size[0] * size[1]).map(|_| random.code()).collect(),
            zero: random.code(),
            weights: (0..shape.out_channels * k).map(|_| random.code()).collect(),
            weight_zeros: (0..zeros).map(|_| random.code()).collect(),
            scales: (0..shape.out_channels).map(|_| random.unit().abs() + 0.01).collect(),
            bias: (0..shape.out_channels).map(|_| random.unit() * 100.0).collect(),
            width: None,
            shape,
            batch,
            size,
        }
    }

    fn packed(&self, kernel: Kernel) -> PackedConv {
        let n = self.shape.out_channels;
        let k = self.weights.len() / n;
        let bytes;
        let codes = match self.width {
            None => Codes::Bytes(&self.weights),
            Some(width) => {
                bytes = packed_rows(Kernel::SCALAR, width, &self.weights, k);
                Codes::Packed(width, &bytes)
            }
        };
        let weights = Weights {
            n,
            k,
            codes,
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales: &self.scales,
            zero_points: &self.weight_zeros,
            minimums: &[],
        };
        PackedConv::new(kernel, self.shape, &weights).unwrap()
    }

    fn images(&self) -> Images<'_> {
        let params = QuantParams::new(X_SCALE, self.zero).unwrap();
        Images::Codes { codes: &self.x, batch: self.batch, size: self.size, params }
    }

    fn out(&self) -> [usize; 2] {
        self.shape.output_size(self.size).unwrap()
    }

    /// The sum for an output pixel, looking at every place of the window.
    fn sum(&self, image: usize, channel: usize, [y, x]: [usize; 2]) -> i32 {
        let ConvShape {
            in_channels,
            out_channels,
            kernel_size: window,
            stride,
            padding,
            dilation,
            groups,
        } = self.shape;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let zero = self.weight_zeros.get(channel).copied().unwrap_or(0);
        let mut sum = 0;
        for c in 0..group_in {
            for i in 0..window[0] {
                for j in 0..window[1] {
                    let at = [y * stride[0] + i * dilation[0], x * stride[1] + j * dilation[1]];
                    let Some(row) = at[0].checked_sub(padding[0][0]) else { continue };
                    let Some(column) = at[1].checked_sub(padding[1][0]) else { continue };
                    if row >= self.size[0] || column >= self.size[1] {
                        continue;
                    }
                    let plane = image * in_channels + channel / group_out * group_in + c;
                    let code = self.x[(plane * self.size[0] + row) * self.size[1] + column];
                    let weight =
                        self.weights[((channel * group_in + c) * window[0] + i) * window[1] + j];
                    sum += (i32::from(code) - i32::from(self.zero))
                        * (i32::from(weight) - i32::from(zero));
                }
            }
        }
        sum
    }

    fn sums(&self) -> Vec<i32> {
        let [height, width] = self.out();
        let mut sums = Vec::new();
        for image in 0..self.batch {
            for channel in 0..self.shape.out_channels {
                for y in 0..height {
                    sums.extend((0..width).map(|x| self.sum(image, channel, [y, x])));
                }
            }
        }
        sums
    }
}

#[test]
fn convolutions_equal_a_naive_loop() {
    for kernel in kernels() {
        let mut random = Random(7);
        let mut cases: Vec<_> = (0..60).map(|_| Case::random(&mut random)).collect();
        for width in [BitWidth::Four, BitWidth::Two] {
            cases.extend((0..20).map(|_| Case::packed_pixels(&mut random, width)));
        }
        for case in cases {
            let weights = case.packed(kernel);
            let expected = case.sums();
            let images = case.images();
            let mut scratch = Scratch::new();
            let mut sums = vec![0; expected.len()];
            let output = Output::I32(&mut sums);
            kernel.conv2d(&weights, images, &Epilogue::default(), output, &mut scratch).unwrap();
            assert_eq!(sums, expected, "{kernel} {:?} {:?}", case.shape, case.size);

            let [height, width] = case.out();
            let floats: Vec<f32> = expected
                .iter()
                .enumerate()
                .map(|(i, sum)| {
                    let channel = i / (height * width) % case.shape.out_channels;
                    let y = *sum as f32 * (X_SCALE * case.scales[channel]) + case.bias[channel];
                    if y > 0.0 { y } else { 0.0 }
                })
                .collect();
            let epilogue = Epilogue { bias: Some(&case.bias), relu: true };
            let mut out = vec![0.0; expected.len()];
            let output = Output::F32(&mut out);
            kernel.conv2d(&weights, images, &epilogue, output, &mut scratch).unwrap();
            assert_eq!(out, floats, "{kernel} {:?}", case.shape);

            let mut codes = vec![0; floats.len()];
            let mut expected = vec![0; floats.len()];
            let quantization = quantization(9.0, -100, (-128, 127));
            kernel.quantize(&floats, quantization, &mut expected);
            let output = Output::I8 { codes: &mut codes, quantization };
            kernel.conv2d(&weights, images, &epilogue, output, &mut scratch).unwrap();
            assert_eq!(codes, expected, "{kernel} {:?}", case.shape);
        }
    }
}

#[test]
fn the_sums_of_a_large_convolution_do_not_depend_on_threads() {
    for kernel in kernels() {
        let case = Case::large(&mut Random(9));
        let (weights, expected) = (case.packed(kernel), case.sums());
        let images = case.images();
        for threads in [1, 2, 3] {
            let mut sums = vec![0; expected.len()];
            let (epilogue, output) = (Epilogue::default(), Output::I32(&mut sums));
            let mut scratch = Scratch::with_threads(threads);
            in_pool(|| kernel.conv2d(&weights, images, &epilogue, output, &mut scratch)).unwrap();
            assert_eq!(sums, expected, "{kernel} {threads}");
        }
    }
}

#[test]
fn float_images_are_quantized_each_by_its_own_range() {
    let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
    for kernel in kernels() {
        let mut random = Random(8);
        for _ in 0..10 {
            let mut case = Case::random(&mut random);
            let mut x: Vec<f32> = case.x.iter().map(|_| random.normal()).collect();
            let image = x.len() / case.batch;
            let weights = case.packed(kernel);
            let images = Images::Dynamic {
                values: &x,
                batch: case.batch,
                size: case.size,
                quantization: DynamicQuantization::default(),
            };
            let mut out = vec![0.0; case.sums().len()];
            kernel
                .conv2d(
                    &weights,
                    images,
                    &Epilogue::default(),
                    Output::F32(&mut out),
                    &mut Scratch::new(),
                )
                .unwrap();
            let last = case.batch - 1;
            let values = &x[last * image..];
            let params = grid.params(Range::of(values).unwrap()).unwrap();
            case.zero = params.zero_point();
            let codes = &mut case.x[last * image..];
            kernel.quantize(values, Quantization::new(params, grid), codes);
            let sums = case.sums();
            let [height, width] = case.out();
            for i in last * out.len() / case.batch..out.len() {
                let channel = i / (height * width) % case.shape.out_channels;
                let y = sums[i] as f32 * (params.scale() * case.scales[channel]);
                assert_eq!(out[i].to_bits(), y.to_bits(), "{kernel}");
            }

            x[last * image + 5] = f32::NAN;
            let images = Images::Dynamic {
                values: &x,
                batch: case.batch,
                size: case.size,
                quantization: DynamicQuantization::default(),
            };
            let error = kernel
                .conv2d(
                    &weights,
                    images,
                    &Epilogue::default(),
                    Output::F32(&mut out),
                    &mut Scratch::new(),
                )
                .unwrap_err();
            let ConvError::Linear(LinearError::NonFinite(error)) = error else { panic!("{error}") };
            assert_eq!(error.index, last * image + 5);
            let granularity = DynamicGranularity::Block(std::num::NonZero::new(8).unwrap());
            let quantization = DynamicQuantization { granularity, ..Default::default() };
            let (batch, size) = (case.batch, case.size);
            let images = Images::Dynamic { values: &x, batch, size, quantization };
            let (epilogue, output) = (Epilogue::default(), Output::F32(&mut out));
            let result = kernel.conv2d(&weights, images, &epilogue, output, &mut Scratch::new());
            assert_eq!(result, Err(ConvError::Linear(LinearError::BlockedImages)));
        }
    }
}

#[test]
fn impossible_convolutions_are_refused() {
    let shape = ConvShape {
        in_channels: 4,
        out_channels: 2,
        kernel_size: [3, 3],
        stride: [1, 1],
        padding: [[0; 2]; 2],
        dilation: [1, 1],
        groups: 1,
    };
    let codes = [0; 72];
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
    let pack = |shape, weights| PackedConv::new(kernel, shape, &weights).map(|_| ()).unwrap_err();
    let bad = ConvShape { groups: 3, ..shape };
    assert_eq!(pack(bad, weights), PackError::Groups { groups: 3, channels: 4 });
    let bad = ConvShape { stride: [0, 1], ..shape };
    assert_eq!(pack(bad, weights), PackError::EmptyKernel);
    let blocks = Weights { granularity: blocks(36), scales: &[1.0; 2], ..weights };
    assert_eq!(pack(shape, blocks), PackError::BlockedConv);
    let minimums = Weights { minimums: &[1.0], ..weights };
    assert_eq!(pack(shape, minimums), PackError::MinimumsOfConv);
    let packed = PackedConv::new(kernel, shape, &weights).unwrap();
    let images =
        Images::Codes { codes: &[0; 8], batch: 1, size: [1, 2], params: QuantParams::UNIT };
    let result = kernel.conv2d(
        &packed,
        images,
        &Epilogue::default(),
        Output::F32(&mut []),
        &mut Scratch::new(),
    );
    assert_eq!(result, Err(ConvError::KernelTooLarge { size: [1, 2] }));
}

/// Sizes that are zero, or whose products leave `usize`.
#[test]
fn shapes_that_cannot_be_are_errors_and_not_panics() {
    let good = ConvShape {
        in_channels: 1,
        out_channels: 1,
        kernel_size: [3, 3],
        stride: [1, 1],
        padding: [[0; 2]; 2],
        dilation: [1, 1],
        groups: 1,
    };
    assert_eq!(good.output_size([5, 7]), Some([3, 5]));
    const HUGE: usize = usize::MAX;
    for bad in [
        ConvShape { kernel_size: [0, 3], ..good },
        ConvShape { kernel_size: [3, HUGE], ..good },
        ConvShape { stride: [1, 0], ..good },
        ConvShape { dilation: [0, 1], ..good },
        ConvShape { dilation: [HUGE, 1], ..good },
        ConvShape { padding: [[HUGE, 0], [0; 2]], ..good },
        ConvShape { padding: [[0, HUGE], [0; 2]], ..good },
        ConvShape { padding: [[0; 2], [HUGE / 2, HUGE / 2]], ..good },
    ] {
        assert_eq!(bad.output_size([5, 7]), None, "{bad:?}");
    }
    assert_eq!(good.output_size([HUGE, 7]), Some([HUGE - 2, 5]));

    let weights = Weights {
        n: 1,
        k: 9,
        codes: Codes::Bytes(&[1; 9]),
        granularity: Granularity::PerTensor,
        scales: &[1.0],
        zero_points: &[],
        minimums: &[],
    };
    let pack = |shape| PackedConv::new(Kernel::fastest(), shape, &weights);
    assert!(pack(ConvShape { kernel_size: [HUGE, HUGE], ..good }).is_err());
    // One output, of an image whose padding is larger than memory.
    let far = ConvShape { stride: [HUGE, HUGE], padding: [[HUGE / 4; 2]; 2], ..good };
    let packed = pack(far).unwrap();
    let images =
        Images::Codes { codes: &[0; 1], batch: 1, size: [1, 1], params: QuantParams::UNIT };
    let (epilogue, output) = (Epilogue::default(), Output::F32(&mut [0.0; 1]));
    let result = Kernel::fastest().conv2d(&packed, images, &epilogue, output, &mut Scratch::new());
    assert_eq!(result, Err(ConvError::TooLarge { size: [1, 1] }));
}

#[test]
fn an_unknown_row_is_an_error_where_rows_are_empty() {
    let weights = EmbeddingWeights {
        rows: 2,
        columns: 0,
        codes: Codes::Bytes(&[]),
        granularity: Granularity::PerTensor,
        scales: &[1.0],
        zero_points: &[],
        minimums: &[],
    };
    let error = Kernel::fastest().embedding(&weights, &[1, 2], &mut []);
    assert_eq!(error, Err(LookupError::UnknownRow { position: 1, id: 2, rows: 2 }));
    let axis = Axis::LAST;
    let columns = EmbeddingWeights { granularity: Granularity::PerChannel(axis), ..weights };
    let error = Kernel::fastest().embedding(&columns, &[], &mut []);
    assert_eq!(error, Err(LookupError::Axis { axis }));
}

fn blocks(len: u32) -> Granularity {
    Granularity::PerBlock(Block::new(len).expect("some elements"))
}

#[test]
fn looked_up_rows_are_dequantized() {
    for kernel in kernels() {
        let mut random = Random(9);
        for columns in [1usize, 7, 31, 64, 300, 611] {
            for width in [None, Some(BitWidth::Four), Some(BitWidth::Two)] {
                for granularity in [
                    Granularity::PerTensor,
                    Granularity::PerChannel(Axis::FIRST),
                    blocks(5),
                    blocks(291),
                ] {
                    let rows = 9;
                    let shift = width.map_or(0, |width| 8 - width.bits() as u32);
                    let codes: Vec<i8> =
                        (0..rows * columns).map(|_| random.code() >> shift).collect();
                    let (blocks, block) = match granularity {
                        Granularity::PerBlock(block) => {
                            (columns.div_ceil(block.len()), block.len())
                        }
                        _ => (1, columns),
                    };
                    let count =
                        if granularity == Granularity::PerTensor { 1 } else { rows * blocks };
                    let scales: Vec<f32> = (0..count).map(|_| random.unit()).collect();
                    let zeros: Vec<i8> =
                        (0..count).map(|_| random.code() >> shift.max(1)).collect();
                    let minimums: Vec<f32> = match random.below(2) {
                        0 => Vec::new(),
                        _ => (0..count).map(|_| random.unit()).collect(),
                    };
                    let bytes = width.map(|width| packed_rows(kernel, width, &codes, columns));
                    let table = EmbeddingWeights {
                        rows,
                        columns,
                        codes: match (width, &bytes) {
                            (Some(width), Some(bytes)) => Codes::Packed(width, bytes),
                            _ => Codes::Bytes(&codes),
                        },
                        granularity,
                        scales: &scales,
                        zero_points: &zeros,
                        minimums: &minimums,
                    };
                    let ids = [3, 0, 8, 3];
                    let mut out = vec![0.0; ids.len() * columns];
                    kernel.embedding(&table, &ids, &mut out).unwrap();
                    for (i, value) in out.iter().enumerate() {
                        let (row, column) = (ids[i / columns] as usize, i % columns);
                        let at = match granularity {
                            Granularity::PerTensor => 0,
                            _ => row * blocks + column / block,
                        };
                        let code = i32::from(codes[row * columns + column]) - i32::from(zeros[at]);
                        let minimum = minimums.get(at).copied().unwrap_or(0.0);
                        assert_eq!(
                            *value,
                            code as f32 * scales[at] + minimum,
                            "{kernel} {granularity:?} {width:?}"
                        );
                    }
                    let error = kernel.embedding(&table, &[0, 9], &mut out[..2 * columns]);
                    let expected = LookupError::UnknownRow { position: 1, id: 9, rows };
                    assert_eq!(error, Err(expected));
                }
            }
        }
    }
}
