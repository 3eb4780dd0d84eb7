//! The jobs that are counted. All calls of the library are here.

use std::hint::black_box;

use quant::kernel::{
    Activations, AttentionScratch, BitWidth, Codes, ConvShape, Epilogue, Images, Kernel,
    KeyValueCache, KeyValueShape, Output, PackedConv, PackedWeights, Scratch, Weights,
};
use quant::quantize::quantize_values;
use quant::record::Record;
use quant::scheme::{
    ActivationMapping, Axis, Block, DynamicGranularity, DynamicQuantization, Granularity,
    KeyValueScheme,
};
use quant::{BincodeRecorder, MinMaxCalibration, Module, QuantizationScheme, Quantizer, Tensor};
use std::num::NonZeroU32;

/// A job that is ready to run. Only the call is counted.
pub(crate) type Job = Box<dyn FnMut()>;

type Prepare = fn() -> Job;

/// The jobs by name, each with the function that prepares it.
pub(crate) const JOBS: &[(&str, Prepare)] = &[
    ("quantize-int8", || quantize("per-channel-symmetric-int8")),
    ("quantize-affine", || quantize("per-tensor-affine-int8")),
    ("quantize-int4", || quantize("per-block-symmetric-int4")),
    ("dequantize-int8", dequantize),
    ("pack-int8", || pack(Bits::Eight)),
    ("pack-int4", || pack(Bits::Four)),
    ("int8-1", || linear(Bits::Eight, 1)),
    ("int8-8", || linear(Bits::Eight, 8)),
    ("int8-128", || linear(Bits::Eight, 128)),
    ("int4-1", || linear(Bits::Four, 1)),
    ("int4-8", || linear(Bits::Four, 8)),
    ("int4-128", || linear(Bits::Four, 128)),
    ("int4-blocks-1", || in_blocks(1)),
    ("int4-blocks-8", || in_blocks(8)),
    ("weight-only-int4-1", weight_only),
    ("attention-int8-1", || attention(KeyValueScheme::Int8, 1)),
    ("attention-int4-32", || attention(KeyValueScheme::Int4, 32)),
    ("swiglu", swiglu),
    ("conv-3x3", || conv(1)),
    ("conv-depthwise", || conv(CHANNELS)),
    ("save", save),
    ("load", load),
    ("plan-minilm", plan),
    ("quantize-minilm", quantize_model),
];

/// Whether this CPU has the kernel of this name.
pub(crate) fn has_kernel(name: &str) -> bool {
    Kernel::named(name).is_ok()
}

/// The rows and columns of a weight, `[out, in]`.
const N: usize = 256;
const K: usize = 384;

/// The heads of queries and of keys, their dimensions, and the tokens that keys are kept of.
const QUERY_HEADS: usize = 6;
const HEADS: usize = 2;
const HEAD_DIM: usize = 64;
const TOKENS: usize = 256;

/// The channels and the size of an image.
const CHANNELS: usize = 32;
const SIZE: [usize; 2] = [20, 20];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    Eight,
    Four,
}

fn quantize(scheme: &str) -> Job {
    let values = values(N * K, 1);
    let scheme: QuantizationScheme = scheme.parse().expect("the name of a scheme");
    Box::new(move || {
        let tensor = quantize_values(&[N, K], &values, scheme, &MinMaxCalibration {});
        drop(black_box(tensor.expect("finite values")));
    })
}

fn dequantize() -> Job {
    let scheme = "per-channel-symmetric-int8".parse().expect("the name of a scheme");
    let tensor = quantize_values(&[N, K], &values(N * K, 1), scheme, &MinMaxCalibration {});
    let (tensor, mut out) = (tensor.expect("finite values"), vec![0.0; N * K]);
    Box::new(move || tensor.dequantize_into(black_box(&mut out)))
}

/// The queries of the last tokens.
fn attention(scheme: KeyValueScheme, tokens: usize) -> Job {
    let (kernel, row) = (Kernel::current(), HEADS * HEAD_DIM);
    let shape = KeyValueShape { heads: HEADS, head_dim: HEAD_DIM, capacity: TOKENS };
    let mut cache = KeyValueCache::new(shape, scheme).expect("a small cache");
    let (keys, kept) = (values(TOKENS * row, 1), values(TOKENS * row, 2));
    cache.append(kernel, &keys, &kept).expect("room for all tokens");
    let queries = values(tokens * QUERY_HEADS * HEAD_DIM, 3);
    let (mut out, mut scratch) = (vec![0.0; queries.len()], AttentionScratch::new());
    Box::new(move || {
        let out = black_box(&mut *out);
        let attended = kernel.attention(&queries, QUERY_HEADS, &cache, out, &mut scratch);
        attended.expect("finite queries");
    })
}

fn swiglu() -> Job {
    let (gate, up, mut out) = (values(N * K, 1), values(N * K, 2), vec![0.0; N * K]);
    Box::new(move || {
        let gated = Kernel::current().swiglu(&gate, &up, black_box(&mut out));
        gated.expect("equal lengths");
    })
}

fn pack(bits: Bits) -> Job {
    let (kernel, weights) = (Kernel::current(), WeightData::new(bits, N, K));
    Box::new(move || drop(black_box(PackedWeights::new(kernel, &weights.view()))))
}

fn linear(bits: Bits, m: usize) -> Job {
    let (kernel, data) = (Kernel::current(), WeightData::new(bits, N, K));
    let weights = PackedWeights::new(kernel, &data.view()).expect("valid weights");
    multiply(weights, m, DynamicQuantization::default())
}

/// 4-bit weights and activations, both in blocks of 32.
fn in_blocks(m: usize) -> Job {
    const BLOCK: NonZeroU32 = NonZeroU32::new(32).unwrap();
    let (kernel, mut data) = (Kernel::current(), WeightData::new(Bits::Four, N, K));
    data.scales = values(N * K / 32, 4);
    let granularity = Granularity::PerBlock(Block::DEFAULT);
    let view = Weights { granularity, ..data.view() };
    let (mapping, granularity) = (ActivationMapping::Symmetric, DynamicGranularity::Block(BLOCK));
    let dynamic = DynamicQuantization { mapping, granularity };
    let weights = PackedWeights::for_dynamic(kernel, &view, dynamic).expect("valid weights");
    multiply(weights, m, dynamic)
}

fn multiply(weights: PackedWeights, m: usize, dynamic: DynamicQuantization) -> Job {
    let kernel = weights.kernel();
    let (x, mut out, mut scratch) = (values(m * K, 2), vec![0.0; m * N], Scratch::with_threads(1));
    Box::new(move || {
        let (epilogue, output) = (Epilogue::default(), Output::F32(&mut out));
        let done = kernel.linear(
            &weights,
            Activations::Dynamic { values: &x, m, quantization: dynamic },
            &epilogue,
            output,
            &mut scratch,
        );
        done.expect("finite activations of the right length");
    })
}

fn weight_only() -> Job {
    let (kernel, data) = (Kernel::current(), WeightData::new(Bits::Four, N, K));
    let weights = PackedWeights::for_floats(kernel, &data.view()).expect("valid weights");
    let (x, mut out, mut scratch) = (values(K, 2), vec![0.0; N], Scratch::with_threads(1));
    Box::new(move || {
        let (epilogue, output) = (Epilogue::default(), Output::F32(&mut out));
        let done = kernel.linear(
            &weights,
            Activations::Float { values: &x, m: 1 },
            &epilogue,
            output,
            &mut scratch,
        );
        done.expect("finite activations of the right length");
    })
}

fn conv(groups: usize) -> Job {
    let kernel = Kernel::current();
    let shape = ConvShape {
        in_channels: CHANNELS,
        out_channels: CHANNELS,
        kernel_size: [3, 3],
        stride: [1, 1],
        padding: [[1, 1], [1, 1]],
        dilation: [1, 1],
        groups,
    };
    let data = WeightData::new(Bits::Eight, CHANNELS, CHANNELS / groups * 9);
    let weights = PackedConv::new(kernel, shape, &data.view()).expect("valid weights");
    let len = CHANNELS * SIZE[0] * SIZE[1];
    let (x, mut out, mut scratch) = (values(len, 3), vec![0.0; len], Scratch::with_threads(1));
    Box::new(move || {
        let images = Images::Dynamic {
            values: &x,
            batch: 1,
            size: SIZE,
            quantization: DynamicQuantization::default(),
        };
        let (epilogue, output) = (Epilogue::default(), Output::F32(&mut out));
        let done = kernel.conv2d(&weights, images, &epilogue, output, &mut scratch);
        done.expect("finite images of the right length");
    })
}

fn save() -> Job {
    let (model, recorder) = (quantized_minilm(), BincodeRecorder::default());
    Box::new(move || drop(black_box(model.save_bytes(&recorder).expect("a valid model"))))
}

fn load() -> Job {
    let recorder = BincodeRecorder::default();
    let bytes = quantized_minilm().save_bytes(&recorder).expect("a valid model");
    let mut model = Some(minilm());
    Box::new(move || {
        // One model is loaded again and again, so that none is made while instructions are counted.
        let loaded = model.take().expect("a model").load_bytes(&bytes, &recorder);
        model = Some(loaded.expect("a valid record"));
    })
}

fn plan() -> Job {
    let (model, quantizer) = (minilm(), quantizer());
    Box::new(move || drop(black_box(quantizer.plan(&model).expect("finite weights"))))
}

fn quantize_model() -> Job {
    let model = minilm();
    Box::new(move || {
        let model = model.clone().quantize_weights(quantizer());
        drop(black_box(model.expect("finite weights")));
    })
}

fn quantizer() -> Quantizer<MinMaxCalibration> {
    let scheme = "per-channel-symmetric-int8".parse().expect("the name of a scheme");
    Quantizer { calibration: MinMaxCalibration {}, scheme }
}

/// A model with the parameter names of all-MiniLM-L6-v2 and axes of an eighth of the length.
fn minilm() -> Record {
    let parameters = include_str!("minilm.txt").lines().zip(0..);
    parameters
        .map(|(line, seed)| {
            let mut words = line.split(' ');
            let name = words.next().expect("a name");
            let axis = |len: &str| len.parse::<usize>().expect("a length").div_ceil(8);
            let shape: Vec<usize> = words.map(axis).collect();
            let values = values(shape.iter().product(), seed);
            (name, Tensor::from_values(&shape, values).expect("as many values as the shape has"))
        })
        .collect()
}

fn quantized_minilm() -> Record {
    minilm().quantize_weights(quantizer()).expect("finite weights")
}

/// Codes and scales of a weight, by channel.
struct WeightData {
    bits: Bits,
    n: usize,
    k: usize,
    bytes: Vec<i8>,
    packed: Vec<u8>,
    scales: Vec<f32>,
}

impl WeightData {
    fn new(bits: Bits, n: usize, k: usize) -> Self {
        let qmax = if bits == Bits::Four { 7.0 } else { 127.0 };
        let code = |value: f32| (value * qmax).round_ties_even() as i8;
        let bytes: Vec<i8> = values(n * k, 1).into_iter().map(code).collect();
        let mut packed = Vec::new();
        if bits == Bits::Four {
            for row in bytes.chunks(k) {
                let start = packed.len();
                packed.resize(start + k.div_ceil(2), 0);
                Kernel::current().pack(BitWidth::Four, row, &mut packed[start..]);
            }
        }
        let scales = (1..=n).map(|channel| channel as f32 * 1e-4).collect();
        Self { bits, n, k, bytes, packed, scales }
    }

    fn view(&self) -> Weights<'_> {
        let codes = match self.bits {
            Bits::Eight => Codes::Bytes(&self.bytes),
            Bits::Four => Codes::Packed(BitWidth::Four, &self.packed),
        };
        let (n, k, scales) = (self.n, self.k, &self.scales);
        Weights {
            n,
            k,
            codes,
            granularity: Granularity::PerChannel(Axis::FIRST),
            scales,
            zero_points: &[],
            minimums: &[],
        }
    }
}

/// Uniform in -1 to 1, by splitmix64.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}
