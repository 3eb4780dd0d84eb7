//! Transposed convolutions on every kernel, against naive loops.

use quant::kernel::{
    Codes, ConvError, ConvShape, ConvTransposeShape, Epilogue, Images, Kernel, LinearError, Output,
    PackError, PackedConv, PackedConvTranspose, Scratch, Weights,
};
use quant::scheme::{Block, Granularity, QuantParams};
use tests::conv::{Convolution, Operands, Run, check_outputs, check_ranges, check_threads};
use tests::kernels::kernels;
use tests::random::Random;

struct Case {
    shape: ConvTransposeShape,
    operands: Operands,
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
        let k = shape.in_channels / shape.groups * shape.kernel_size[0] * shape.kernel_size[1];
        let channels = [shape.in_channels, shape.out_channels];
        Self { shape, operands: Operands::random(random, channels, size, k) }
    }

    fn out(&self) -> [usize; 2] {
        self.shape.output_size(self.operands.size).unwrap()
    }

    /// `code - zero point` of a weight.
    fn weight(&self, channel: usize, c: usize, at: [usize; 2]) -> i32 {
        let ConvTransposeShape { in_channels, groups, kernel_size, .. } = self.shape;
        let filter = channel * (in_channels / groups) + c;
        let at = (filter * kernel_size[0] + at[0]) * kernel_size[1] + at[1];
        i32::from(self.operands.weights[at]) - self.operands.weight_zero(channel)
    }
}

impl Convolution for Case {
    fn operands(&mut self) -> &mut Operands {
        &mut self.operands
    }

    /// Each input times the kernel, added where it belongs.
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
        let Operands { batch, size, .. } = self.operands;
        let mut sums = vec![0; batch * out_channels * height * width];
        let mut add = |image: usize, channel: usize, c: usize, from: [usize; 2], at: [usize; 2]| {
            let to = [0, 1].map(|i| {
                let position = from[i] * stride[i] + at[i] * dilation[i];
                position.checked_sub(padding[i][0]).filter(|to| *to < [height, width][i])
            });
            let [Some(y), Some(x)] = to else { return };
            let plane = image * in_channels + channel / group_out * group_in + c;
            sums[((image * out_channels + channel) * height + y) * width + x] +=
                self.operands.pixel(plane, from) * self.weight(channel, c, at);
        };
        for image in 0..batch {
            for channel in 0..out_channels {
                for c in 0..group_in {
                    for from in pairs(size) {
                        pairs(kernel_size).for_each(|at| add(image, channel, c, from, at));
                    }
                }
            }
        }
        sums
    }

    fn packed(&self, kernel: Kernel) -> Run {
        let weights = self.operands.with_weights(|weights| {
            PackedConvTranspose::new(kernel, self.shape, weights).expect("weights that fit")
        });
        Box::new(move |x, epilogue, output, scratch| {
            kernel.conv_transpose2d(&weights, x, epilogue, output, scratch)
        })
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
            check_outputs(&mut Case::random(&mut random), kernel);
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
        let operands = &case.operands;
        let size = [0, 1].map(|i| (operands.size[i] - 1) * stride[i] + 1);
        let planes = operands.batch * case.shape.in_channels;
        let mut x = vec![operands.zero; planes * size[0] * size[1]];
        for plane in 0..planes {
            for [i, j] in pairs(operands.size) {
                x[(plane * size[0] + i * stride[0]) * size[1] + j * stride[1]] =
                    operands.x[(plane * operands.size[0] + i) * operands.size[1] + j];
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
        assert_eq!(shape.output_size(size), Some(case.out()));
        let filters = operands.weights.chunks(kernel_size[0] * kernel_size[1]);
        let turned = filters.flat_map(|filter| filter.iter().rev().copied()).collect();
        let by_conv = Operands { size, x, weights: turned, ..operands.clone() };
        let mut sums = vec![0; case.sums().len()];
        let (none, output) = (Epilogue::default(), Output::I32(&mut sums));
        by_conv.with_weights(|weights| {
            let weights = PackedConv::new(kernel, shape, weights).unwrap();
            let images = by_conv.images();
            kernel.conv2d(&weights, images, &none, output, &mut Scratch::new()).unwrap();
        });
        assert_eq!(sums, case.sums(), "{:?}", case.shape);
    }
}

#[test]
fn the_sums_of_a_large_transposed_convolution_do_not_depend_on_threads() {
    for kernel in kernels() {
        check_threads(&mut Case::large(&mut Random(19)), kernel);
    }
}

#[test]
fn float_images_are_quantized_each_by_its_own_range() {
    for kernel in kernels() {
        let mut random = Random(20);
        check_ranges(&mut Case::random(&mut random), kernel, &mut random);
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
