//! Convolutions beside those of others: over `im2col` and `gemm` in floats, over the products of
//! `rten-gemm` that gather patches as they go (what rten's own layers run on) in floats and u8 × i8,
//! and candle's in floats.

use crate::data::{self, Draw};
use crate::measure::{Report, Subject};
use quant::kernel::{
    Codes, ConvShape, Epilogue, Images, Kernel, Output, PackedConv, Scratch, Weights,
};
use quant::scheme::{Axis, DynamicQuantization, Granularity, QuantParams};
use rten_gemm::{
    BiasVector, ColOffsets, GemmExecutor, GemmInT, GemmInputA, GemmInputB, GemmOptions, GemmOutT,
    Im2Col, RowOffsets,
};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

struct Case {
    name: &'static str,
    shape: ConvShape,
    size: [usize; 2],
}

const fn shape(channels: [usize; 2], window: usize, stride: usize, groups: usize) -> ConvShape {
    ConvShape {
        in_channels: channels[0],
        out_channels: channels[1],
        kernel_size: [window, window],
        stride: [stride, stride],
        padding: [[window / 2; 2]; 2],
        dilation: [1, 1],
        groups,
    }
}

const CASES: [Case; 4] = [
    Case { name: "3x3 64-64 56x56", shape: shape([64, 64], 3, 1, 1), size: [56, 56] },
    Case { name: "1x1 256-64 56x56", shape: shape([256, 64], 1, 1, 1), size: [56, 56] },
    Case { name: "3x3/2 3-32 224x224", shape: shape([3, 32], 3, 2, 1), size: [224, 224] },
    Case { name: "3x3 depthwise 96 56x56", shape: shape([96, 96], 3, 1, 96), size: [56, 56] },
];

pub(crate) fn run(report: &Report) {
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for case in &CASES {
            pool.install(|| run_case(report, case, threads));
        }
    }
}

fn run_case(report: &Report, case: &Case, threads: usize) {
    let shape = &case.shape;
    let k = shape.in_channels / shape.groups * shape.kernel_size[0] * shape.kernel_size[1];
    let weights = data::weights(Draw::Real, shape.out_channels, k, 8, 3);
    let [height, width] = case.size;
    let x = data::activations(Draw::Real, shape.in_channels, height * width, 4);
    let out = shape.output_size(case.size).expect("the window fits");
    let pixels = out[0] * out[1];
    let gops = 2.0 * (pixels * shape.out_channels * k) as f64;
    let mut subjects = Vec::new();
    for kernel in Kernel::available().filter(|kernel| *kernel != Kernel::SCALAR) {
        let packed = Weights {
            n: shape.out_channels,
            k,
            codes: Codes::Bytes(&weights.codes),
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales: &weights.scales,
            zero_points: &[],
            minimums: &[],
        };
        let packed = PackedConv::new(kernel, *shape, &packed).expect("a good shape");
        let exact = is_exact(kernel, &packed, &weights.codes, case);
        let (mut y, mut scratch) =
            (vec![0.0; pixels * shape.out_channels], Scratch::with_threads(threads));
        let x = &x;
        let run = move || {
            let images = Images::Dynamic {
                values: x,
                batch: 1,
                size: case.size,
                quantization: DynamicQuantization::default(),
            };
            let (epilogue, output) = (Epilogue::default(), Output::F32(&mut y));
            kernel.conv2d(&packed, images, &epilogue, output, &mut scratch).expect("finite images");
        };
        let name = format!("quant int8 dynamic {kernel}");
        subjects.push(Subject::new(name, run).work("gops", gops).exact(exact));
    }
    let mut float = Float::new(case, &weights.values, k, pixels, threads);
    let x = &x;
    subjects.push(Subject::new("im2col + gemm f32", move || float.run(x)).work("gops", gops));
    if shape.groups == 1 {
        rten(&mut subjects, case, &weights, x, gops);
    }
    #[cfg(feature = "candle")]
    if crate::candle::uses(threads) {
        crate::candle::conv(&mut subjects, shape, case.size, &weights.values, x, gops);
    }
    report.rows("conv", case.name, threads, 15, &mut subjects);
}

/// The sums of full-range codes, against i64.
fn is_exact(kernel: Kernel, packed: &PackedConv, codes: &[i8], case: &Case) -> bool {
    let Case { shape, size: [height, width], .. } = case;
    let mut random = data::Random(5);
    let x: Vec<i8> = (0..shape.in_channels * height * width).map(|_| random.bits() as i8).collect();
    let [rows, columns] = shape.output_size(case.size).expect("the window fits");
    let mut sums = vec![0; shape.out_channels * rows * columns];
    let images = Images::Codes {
        codes: &x,
        batch: 1,
        size: case.size,
        params: QuantParams::new(1.0, 3).expect("a valid scale"),
    };
    let (epilogue, output) = (Epilogue::default(), Output::I32(&mut sums));
    kernel.conv2d(packed, images, &epilogue, output, &mut Scratch::new()).expect("the slices fit");
    let codes: Vec<i64> = codes.iter().map(|code| i64::from(*code)).collect();
    matches_naive(case, &codes, &x, 3, &sums)
}

/// Whether all sums are those of a naive loop in i64, where images have this zero point.
fn matches_naive(case: &Case, weights: &[i64], x: &[i8], zero: i64, sums: &[i32]) -> bool {
    let Case { shape, size: [height, width], .. } = case;
    let [rows, columns] = shape.output_size(case.size).expect("the window fits");
    let (group_in, group_out) =
        (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let [window, _] = shape.kernel_size;
    (0..shape.out_channels).all(|channel| {
        (0..rows * columns).all(|at| {
            let mut sum = 0i64;
            for i in 0..group_in * window * window {
                let y = at / columns * shape.stride[0] + i / window % window;
                let x_at = at % columns * shape.stride[1] + i % window;
                let (y, x_at) =
                    (y.wrapping_sub(shape.padding[0][0]), x_at.wrapping_sub(shape.padding[1][0]));
                if y < *height && x_at < *width {
                    let plane = channel / group_out * group_in + i / window / window;
                    let code = i64::from(x[(plane * height + y) * width + x_at]) - zero;
                    sum += code * weights[channel * group_in * window * window + i];
                }
            }
            sum == i64::from(sums[channel * rows * columns + at])
        })
    })
}

fn rten<'a>(
    subjects: &mut Vec<Subject<'a>>,
    case: &Case,
    weights: &data::WeightData,
    x: &[f32],
    gops: f64,
) {
    let (run, _) = rten_conv::<f32, f32, f32>(case, &weights.values, x, 0.0);
    subjects.push(Subject::new("rten-gemm im2col f32", run).work("gops", gops));
    let codes: Vec<u8> = weights.codes.iter().map(|code| (i16::from(*code) + 128) as u8).collect();
    let x: Vec<i8> = x.iter().map(|x| (x * 20.0) as i8).collect();
    let (run, out) = rten_conv::<u8, i8, i32>(case, &codes, &x, 0);
    let wide = |codes: &[u8]| codes.iter().map(|code| i64::from(*code)).collect::<Vec<_>>();
    let exact = matches_naive(case, &wide(&codes), &x, 0, &out);
    let subject = Subject::new("rten-gemm im2col u8×i8 sums", run).work("gops", gops);
    subjects.push(subject.exact(exact));
}

/// A convolution of one group by a product with patches, and what it gives.
fn rten_conv<L: GemmInT + 'static, R: GemmInT + 'static, O: GemmOutT + Clone + 'static>(
    case: &Case,
    weights: &[L],
    x: &[R],
    zero: O,
) -> (Box<dyn FnMut()>, Vec<O>)
where
    GemmExecutor<L, R, O>: Default,
{
    let Case { shape, size: [height, width], .. } = case;
    let k = shape.in_channels * shape.kernel_size[0] * shape.kernel_size[1];
    let [rows, columns] = shape.output_size(case.size).expect("the window fits");
    let gemm = GemmExecutor::<L, R, O>::default();
    let (weights, x) = (
        NdTensor::from_data([shape.out_channels, k], weights.to_vec()),
        NdTensor::from_data([shape.in_channels, *height, *width], x.to_vec()),
    );
    let packed = gemm.prepack_a(weights.view());
    let mut out = vec![zero; shape.out_channels * rows * columns];
    let offsets = |len: usize, step: usize, of: &dyn Fn(usize) -> i32| {
        let padded = len.next_multiple_of(step);
        (0..padded).map(|i| if i < len { of(i) } else { i32::MAX }).collect::<Vec<_>>()
    };
    let (k_step, step) = (gemm.im2col_row_count_step(), gemm.im2col_col_count_step());
    let [window_rows, window] = shape.kernel_size;
    let (padding, stride) = (shape.padding[0][0] as i32, shape.stride[0]);
    let width_i32 = *width as i32;
    let of_k = |of: &dyn Fn(usize) -> usize| offsets(k, k_step, &|i| of(i) as i32);
    let chan = of_k(&|i| i / window / window_rows * height * width);
    let y = of_k(&|i| i / window % window_rows * width);
    let x_in = of_k(&|i| i % window);
    let pixels = rows * columns;
    let top = offsets(pixels, step, &|i| ((i / columns * stride) as i32 - padding) * width_i32);
    let left = offsets(pixels, step, &|i| (i % columns * stride) as i32 - padding);
    let (max_y_offset, max_x_offset) = ((height - 1) as i32 * width_i32, width_i32 - 1);
    let run = move |out: &mut Vec<O>| {
        // As rten does, offsets are made anew for each call.
        let patches = Im2Col {
            image: x.view(),
            row_offsets: RowOffsets { chan: chan.clone(), y: y.clone(), x: x_in.clone() },
            col_offsets: ColOffsets { y: top.clone(), x: left.clone() },
            n_cols: pixels,
            n_rows: k,
            max_y_offset,
            max_x_offset,
        };
        gemm.gemm(
            out,
            GemmInputA::Packed(&packed),
            GemmInputB::Im2Col(&patches),
            GemmOptions { bias: None::<BiasVector<'_, O>>, ..Default::default() },
        )
        .unwrap();
    };
    run(&mut out);
    let first = out.clone();
    (Box::new(move || run(&mut out)), first)
}

/// Patches as columns `[k, pixels]`, times the weights.
struct Float<'a> {
    case: &'a Case,
    weights: &'a [f32],
    k: usize,
    pixels: usize,
    patches: Vec<f32>,
    out: Vec<f32>,
    parallel: gemm::Parallelism,
}

impl<'a> Float<'a> {
    fn new(case: &'a Case, weights: &'a [f32], k: usize, pixels: usize, threads: usize) -> Self {
        let parallel = match threads {
            1 => gemm::Parallelism::None,
            threads => gemm::Parallelism::Rayon(threads),
        };
        let (patches, out) = (vec![0.0; k * pixels], vec![0.0; case.shape.out_channels * pixels]);
        Self { case, weights, k, pixels, patches, out, parallel }
    }

    fn run(&mut self, x: &[f32]) {
        let shape = &self.case.shape;
        let group_out = shape.out_channels / shape.groups;
        for group in 0..shape.groups {
            self.gather(x, group);
            let (m, n, k) = (group_out, self.pixels, self.k);
            let out = self.out[group * m * n..][..m * n].as_mut_ptr();
            let weights = self.weights[group * m * k..][..m * k].as_ptr();
            let patches = self.patches.as_ptr();
            let (row, inner) = (n as isize, k as isize);
            // SAFETY: the pointers are to m·n, m·k and k·n elements, and the strides stay within.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    out,
                    1,
                    row,
                    false,
                    weights,
                    1,
                    inner,
                    patches,
                    1,
                    row,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    self.parallel,
                );
            }
        }
    }

    fn gather(&mut self, x: &[f32], group: usize) {
        let Case { shape, size: [height, width], .. } = self.case;
        let group_in = shape.in_channels / shape.groups;
        let [window, _] = shape.kernel_size;
        let [_, columns] = shape.output_size(self.case.size).expect("the window fits");
        for (i, patches) in self.patches.chunks_mut(self.pixels).enumerate() {
            let plane = &x[(group * group_in + i / window / window) * height * width..];
            for (at, patch) in patches.iter_mut().enumerate() {
                let y = (at / columns * shape.stride[0] + i / window % window)
                    .wrapping_sub(shape.padding[0][0]);
                let x =
                    (at % columns * shape.stride[1] + i % window).wrapping_sub(shape.padding[1][0]);
                *patch = if y < *height && x < *width { plane[y * width + x] } else { 0.0 };
            }
        }
    }
}
