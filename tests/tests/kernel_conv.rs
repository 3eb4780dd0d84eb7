//! Convolutions and lookups on every kernel, against naive loops.

use quant::kernel::{
    BitWidth, Codes, ConvError, ConvShape, EmbeddingWeights, Epilogue, Images, Kernel, LinearError,
    LookupError, Output, PackError, PackedConv, Scratch, Weights,
};
use quant::scheme::{
    Axis, Block, DynamicGranularity, DynamicQuantization, Granularity, QuantParams,
};
use tests::conv::{Convolution, Operands, Run, check_outputs, check_ranges, check_threads};
use tests::kernels::{kernels, packed_rows};
use tests::random::Random;

struct Case {
    shape: ConvShape,
    operands: Operands,
}

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
        let Operands { weights, weight_zeros, .. } = &mut case.operands;
        for code in weights.iter_mut().chain(weight_zeros) {
            *code >>= 8 - width.bits();
        }
        case.operands.width = Some(width);
        case
    }

    fn new(random: &mut Random, shape: ConvShape, size: [usize; 2]) -> Self {
        let k = shape.in_channels / shape.groups * shape.kernel_size[0] * shape.kernel_size[1];
        let channels = [shape.in_channels, shape.out_channels];
        Self { shape, operands: Operands::random(random, channels, size, k) }
    }

    fn out(&self) -> [usize; 2] {
        self.shape.output_size(self.operands.size).unwrap()
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
        let Operands { size, weights, .. } = &self.operands;
        let zero = self.operands.weight_zero(channel);
        let mut sum = 0;
        for c in 0..group_in {
            for i in 0..window[0] {
                for j in 0..window[1] {
                    let at = [y * stride[0] + i * dilation[0], x * stride[1] + j * dilation[1]];
                    let Some(row) = at[0].checked_sub(padding[0][0]) else { continue };
                    let Some(column) = at[1].checked_sub(padding[1][0]) else { continue };
                    if row >= size[0] || column >= size[1] {
                        continue;
                    }
                    let plane = image * in_channels + channel / group_out * group_in + c;
                    let weight =
                        weights[((channel * group_in + c) * window[0] + i) * window[1] + j];
                    sum += self.operands.pixel(plane, [row, column]) * (i32::from(weight) - zero);
                }
            }
        }
        sum
    }
}

impl Convolution for Case {
    fn operands(&mut self) -> &mut Operands {
        &mut self.operands
    }

    fn sums(&self) -> Vec<i32> {
        let [height, width] = self.out();
        let mut sums = Vec::new();
        for image in 0..self.operands.batch {
            for channel in 0..self.shape.out_channels {
                for y in 0..height {
                    sums.extend((0..width).map(|x| self.sum(image, channel, [y, x])));
                }
            }
        }
        sums
    }

    fn packed(&self, kernel: Kernel) -> Run {
        let weights = self.operands.with_weights(|weights| {
            PackedConv::new(kernel, self.shape, weights).expect("weights that fit")
        });
        Box::new(move |x, epilogue, output, scratch| {
            kernel.conv2d(&weights, x, epilogue, output, scratch)
        })
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
        for mut case in cases {
            check_outputs(&mut case, kernel);
        }
    }
}

#[test]
fn the_sums_of_a_large_convolution_do_not_depend_on_threads() {
    for kernel in kernels() {
        check_threads(&mut Case::large(&mut Random(9)), kernel);
    }
}

#[test]
fn float_images_are_quantized_each_by_its_own_range() {
    for kernel in kernels() {
        let mut random = Random(8);
        for _ in 0..10 {
            let mut case = Case::random(&mut random);
            check_ranges(&mut case, kernel, &mut random);
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

    let granularity = DynamicGranularity::Block(std::num::NonZero::new(8).unwrap());
    let quantization = DynamicQuantization { granularity, ..Default::default() };
    let images = Images::Dynamic { values: &[0.0; 36], batch: 1, size: [3, 3], quantization };
    let (epilogue, output) = (Epilogue::default(), Output::F32(&mut [0.0; 2]));
    let result = kernel.conv2d(&packed, images, &epilogue, output, &mut Scratch::new());
    assert_eq!(result, Err(ConvError::Linear(LinearError::BlockedImages)));
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
