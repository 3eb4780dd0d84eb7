//! Integer products on every kernel: exact against i64, and the same output bits everywhere.

use proptest::prelude::*;
use quant::QuantizationType;
use quant::kernel::{
    Activations, BitWidth, Codes, Epilogue, Kernel, LinearError, Output, PackError, PackedWeights,
    Product, Scratch, Weights,
};
use quant::scheme::{ActivationMapping, Grid, Mapping, NonFinite, Range, ScaleType};
use quant::scheme::{Axis, Block, DynamicGranularity, DynamicQuantization, Granularity};
use quant::scheme::{QuantParams, Quantization, f16_to_f32, f32_to_f16};
use std::num::NonZero;
use tests::golden;
use tests::kernels::{in_pool, kernels, packed_rows, quantization};
use tests::random::Random;

/// One of the ways to pack weights.
type Pack = fn(Kernel, &Weights<'_>) -> Result<PackedWeights, PackError>;

const PACKS: [Pack; 2] = [PackedWeights::new, PackedWeights::for_floats];

/// Scales of either sign.
fn random_scales(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.unit().max(1e-3).copysign(random.unit() - 0.4)).collect()
}

/// A layer as plain numbers, and what rule 6 says about it.
#[derive(Clone, Debug)]
struct Layer {
    m: usize,
    n: usize,
    k: usize,
    width: Option<BitWidth>,
    granularity: Granularity,
    weights: Vec<i8>,
    weight_scales: Vec<f32>,
    weight_zeros: Vec<i8>,
    weight_minimums: Vec<f32>,
    x: Vec<i8>,
    x_scales: Vec<f32>,
    x_zeros: Vec<i8>,
    bias: Option<Vec<f32>>,
    relu: bool,
}

impl Layer {
    fn random(random: &mut Random, (m, n, k): (usize, usize, usize), extreme: bool) -> Self {
        let width = [None, None, Some(BitWidth::Four), Some(BitWidth::Two)][random.below(4)];
        let granularity = match random.below(4) {
            0 => Granularity::PerTensor,
            1 | 2 => Granularity::PerChannel(Axis::FIRST),
            _ => blocks([1, 3, 8, 32, 33, 64, 100][random.below(7)]),
        };
        let shift = width.map_or(0, |width| 8 - width.bits() as u32);
        let code = |random: &mut Random| if extreme { random.extreme() } else { random.code() };
        let params = match granularity {
            Granularity::PerTensor => 1,
            Granularity::PerChannel(_) => n,
            Granularity::PerBlock(block) => n * k.div_ceil(block.len()),
            _ => unreachable!(),
        };
        let rows = if random.below(2) == 0 { 1 } else { m };
        Self {
            weights: (0..n * k).map(|_| code(random) >> shift).collect(),
            weight_scales: random_scales(random, params),
            weight_zeros: match random.below(2) {
                0 => Vec::new(),
                _ => (0..params).map(|_| code(random) >> shift).collect(),
            },
            x: (0..m * k).map(|_| code(random)).collect(),
            x_scales: (0..rows).map(|_| random.unit().abs() + 1e-3).collect(),
            x_zeros: match random.below(3) {
                0 => Vec::new(),
                _ => (0..rows).map(|_| code(random)).collect(),
            },
            weight_minimums: Vec::new(),
            bias: (random.below(2) == 0).then(|| (0..n).map(|_| random.unit() * 50.0).collect()),
            relu: random.below(3) == 0,
            m,
            n,
            k,
            width,
            granularity,
        }
    }

    /// The same with a random minimum for each scale, above the least code or any other.
    fn over_minimums(mut self, random: &mut Random) -> Self {
        let params = self.weight_scales.len();
        self.weight_minimums = random_scales(random, params);
        if random.below(2) == 0 {
            self.weight_zeros = vec![(-128i8) >> self.width.map_or(0, |width| 8 - width.bits())];
        }
        self
    }

    /// Scales and minimums as half precision has them.
    fn in_halves(mut self) -> Self {
        for values in [&mut self.weight_scales, &mut self.weight_minimums] {
            values.iter_mut().for_each(|value| *value = f16_to_f32(f32_to_f16(*value)));
        }
        self
    }

    fn packed(&self, kernel: Kernel) -> PackedWeights {
        self.packed_by(kernel, PackedWeights::new)
    }

    fn packed_by(
        &self,
        kernel: Kernel,
        pack: impl Fn(Kernel, &Weights<'_>) -> Result<PackedWeights, PackError>,
    ) -> PackedWeights {
        let bytes;
        let codes = match self.width {
            None => Codes::Bytes(&self.weights),
            Some(width) => {
                bytes = packed_rows(Kernel::SCALAR, width, &self.weights, self.k);
                Codes::Packed(width, &bytes)
            }
        };
        let weights = Weights {
            n: self.n,
            k: self.k,
            codes,
            granularity: self.granularity,
            scales: &self.weight_scales,
            zero_points: &self.weight_zeros,
            minimums: &self.weight_minimums,
        };
        let packed = pack(kernel, &weights).unwrap();
        (0..self.n).for_each(|n| self.assert_row_comes_back(&packed, n));
        packed
    }

    fn assert_row_comes_back(&self, packed: &PackedWeights, n: usize) {
        let row = packed.row(n);
        assert_eq!(row.codes, self.weights[n * self.k..][..self.k]);
        for (block, (scale, zero)) in row.scales.iter().zip(&row.zero_points).enumerate() {
            assert_eq!((*scale, i64::from(*zero)), self.parameter(n, block));
            let minimum = self.weight_minimums.get(self.parameter_at(n, block));
            assert_eq!(row.minimums.get(block), minimum);
        }
        assert_eq!(row.scales.len(), self.k.div_ceil(self.block().max(1)));
    }

    fn activations(&self) -> Activations<'_> {
        Activations::Codes {
            codes: &self.x,
            m: self.m,
            scales: &self.x_scales,
            zero_points: &self.x_zeros,
        }
    }

    fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { bias: self.bias.as_deref(), relu: self.relu }
    }

    fn block(&self) -> usize {
        match self.granularity {
            Granularity::PerBlock(block) => block.len(),
            _ => self.k,
        }
    }

    fn parameter_at(&self, n: usize, block: usize) -> usize {
        match self.granularity {
            Granularity::PerTensor => 0,
            Granularity::PerChannel(_) => n,
            Granularity::PerBlock(blocks) => n * self.k.div_ceil(blocks.len()) + block,
            _ => unreachable!(),
        }
    }

    fn parameter(&self, n: usize, block: usize) -> (f32, i64) {
        let at = self.parameter_at(n, block);
        let zeros = &self.weight_zeros;
        let zero = zeros.get(if zeros.len() == 1 { 0 } else { at }).copied().unwrap_or(0);
        (self.weight_scales[at], i64::from(zero))
    }

    /// The scale of a row.
    fn x_scale(&self, m: usize) -> f32 {
        self.x_scales[if self.x_scales.len() == 1 { 0 } else { m }]
    }

    /// The zero point of a row.
    fn x_zero(&self, m: usize) -> i64 {
        match self.x_zeros.len() {
            0 => 0,
            1 => i64::from(self.x_zeros[0]),
            _ => i64::from(self.x_zeros[m]),
        }
    }

    /// The term of a block (rule 13).
    fn over_minimum(&self, m: usize, n: usize, block: usize) -> f32 {
        let start = block * self.block();
        let row = &self.x[m * self.k..][start..self.k.min(start + self.block())];
        let sum: i64 = row.iter().map(|x| i64::from(*x) - self.x_zero(m)).sum();
        let minimum = self.weight_minimums[self.parameter_at(n, block)];
        let scaled = self.sum(m, n, block) as f32 * (self.x_scale(m) * self.parameter(n, block).0);
        scaled + sum as f32 * (self.x_scale(m) * minimum)
    }

    /// The exact sum over a block.
    fn sum(&self, m: usize, n: usize, block: usize) -> i32 {
        let x_zero = self.x_zero(m);
        let (_, zero) = self.parameter(n, block);
        let start = block * self.block();
        let sum: i64 = (start..self.k.min(start + self.block()))
            .map(|k| {
                let x = i64::from(self.x[m * self.k + k]) - x_zero;
                x * (i64::from(self.weights[n * self.k + k]) - zero)
            })
            .sum();
        sum.try_into().unwrap()
    }

    /// Rule 6, as it is written.
    fn output(&self, m: usize, n: usize) -> f32 {
        let x_scale = self.x_scale(m);
        let scaled = |block| self.sum(m, n, block) as f32 * (x_scale * self.parameter(n, block).0);
        let mut y = match self.granularity {
            _ if !self.weight_minimums.is_empty() => (0..self.k.div_ceil(self.block().max(1)))
                .fold(0.0, |y, block| y + self.over_minimum(m, n, block)),
            Granularity::PerBlock(block) => {
                let len = block.len();
                (0..self.k.div_ceil(len)).fold(0.0, |y, block| y + scaled(block))
            }
            _ => scaled(0),
        };
        if let Some(bias) = &self.bias {
            y += bias[n];
        }
        if self.relu && (y <= 0.0 || y.is_nan()) { 0.0 } else { y }
    }

    fn outputs(&self) -> Vec<f32> {
        (0..self.m * self.n).map(|i| self.output(i / self.n, i % self.n)).collect()
    }

    fn run(&self, kernel: Kernel, scratch: &mut Scratch) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.m * self.n];
        let weights = self.packed(kernel);
        kernel
            .linear(&weights, self.activations(), &self.epilogue(), Output::F32(&mut out), scratch)
            .unwrap();
        out
    }

    fn assert_exact(&self, kernel: Kernel) {
        let mut scratch = Scratch::new();
        let out = self.run(kernel, &mut scratch);
        let expected = self.outputs();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let shape = (self.m, self.n, self.k, self.granularity, self.width);
        assert_eq!(bits(&out), bits(&expected), "{kernel} {shape:?}");
        let blocks = matches!(self.granularity, Granularity::PerBlock(_));
        if blocks || !self.weight_minimums.is_empty() {
            return;
        }
        let mut sums = vec![i32::MIN; self.m * self.n];
        let weights = self.packed(kernel);
        kernel
            .linear(
                &weights,
                self.activations(),
                &Epilogue::default(),
                Output::I32(&mut sums),
                &mut scratch,
            )
            .unwrap();
        for (i, sum) in sums.iter().enumerate() {
            assert_eq!(*sum, self.sum(i / self.n, i % self.n, 0), "{kernel} {shape:?} {i}");
        }
    }
}

impl Layer {
    /// Rule 11 for float activations, however the weights are packed.
    fn assert_weight_only(&self, kernel: Kernel, random: &mut Random) {
        let x: Vec<f32> = (0..self.m * self.k).map(|_| random.normal()).collect();
        let expected = bits(&weight_only(self, &x));
        for pack in PACKS {
            let (m, weights) = (self.m, self.packed_by(kernel, pack));
            let mut y = vec![f32::NAN; m * self.n];
            let (epilogue, output) = (self.epilogue(), Output::F32(&mut y));
            let scratch = &mut Scratch::new();
            kernel
                .linear(&weights, Activations::Float { values: &x, m }, &epilogue, output, scratch)
                .unwrap();
            assert_eq!(bits(&y), expected, "{kernel} {m} {} {}", self.n, self.k);
        }
    }
}

#[test]
fn exact_at_every_remainder_of_m_n_and_k() {
    for kernel in kernels() {
        let mut random = Random(1);
        for m in (1..=26).chain([47, 48, 49]) {
            let n = random.below(70) + 1;
            let k = random.below(200) + 1;
            Layer::random(&mut random, (m, n, k), false).assert_exact(kernel);
        }
        for n in 1..=67 {
            let (m, k) = (random.below(8) + 1, random.below(150) + 1);
            Layer::random(&mut random, (m, n, k), n % 2 == 0).assert_exact(kernel);
        }
        // So many rows that every kernel unpacks a panel once for all of them.
        for width in [BitWidth::Four, BitWidth::Two] {
            let layer = loop {
                let layer = Layer::random(&mut random, (300, 40, 130), false);
                if layer.width == Some(width) {
                    break layer;
                }
            };
            layer.assert_exact(kernel);
        }
        // Rows that multiply what is stored, and rows for which AVX2 unpacks or widens a panel once.
        for k in (0..=135).chain([255, 256, 257]) {
            for rows in [1, 33] {
                let (m, n) = (random.below(8) + rows, random.below(40) + 1);
                Layer::random(&mut random, (m, n, k), k % 2 == 0).assert_exact(kernel);
            }
        }
    }
}

#[test]
fn minimums_are_added_by_rule_13() {
    for kernel in kernels() {
        let mut random = Random(13);
        for case in 0..160 {
            let m = if case % 8 == 0 { random.below(60) + 1 } else { random.below(13) + 1 };
            let shape = (m, random.below(70) + 1, random.below(200) + case % 2);
            let layer = Layer::random(&mut random, shape, case % 3 == 0);
            let layer = layer.over_minimums(&mut random);
            layer.assert_exact(kernel);
            layer.assert_weight_only(kernel, &mut random);
        }
        let layer = Layer::random(&mut random, (3, 20, 64), false).over_minimums(&mut random);
        let weights = layer.packed(kernel);
        let run = |x, output: Output<'_>| {
            let (epilogue, scratch) = (Epilogue::default(), &mut Scratch::new());
            kernel.linear(&weights, x, &epilogue, output, scratch).unwrap_err()
        };
        let mut sums = [0; 60];
        for x in [layer.activations(), Activations::Float { values: &[0.0; 3 * 64], m: 3 }] {
            assert_eq!(run(x, Output::I32(&mut sums)), LinearError::NoSingleAccumulator);
        }
    }
}

#[test]
fn exact_where_every_product_is_extreme() {
    for kernel in kernels() {
        let mut random = Random(2);
        for (x, w) in [(-128, -128), (-128, 127), (127, -128), (127, 127)] {
            for zero in [-128, 0, 127] {
                for (m, k) in [(3, 4), (3, 64), (3, 513), (3, 16_000), (33, 130)] {
                    let mut layer = Layer::random(&mut random, (m, 18, k), true);
                    layer.width = None;
                    layer.granularity = Granularity::PerTensor;
                    layer.weight_scales = vec![0.5];
                    layer.weight_zeros.clear();
                    layer.x_zeros = vec![zero];
                    layer.x.fill(x);
                    layer.weights.fill(w);
                    layer.assert_exact(kernel);
                    layer.weight_zeros = vec![-zero.max(-127)];
                    layer.assert_exact(kernel);
                }
            }
        }
    }
}

#[test]
fn exact_where_every_product_of_few_bits_is_extreme() {
    let widths = [(BitWidth::Four, [-8, 7]), (BitWidth::Two, [-2, 1])];
    // Rows that multiply packed codes, and rows for which AVX2 unpacks a panel once.
    let shapes = [(3, 18, 513), (5, 7, 24), (33, 17, 130)];
    for kernel in kernels() {
        let mut random = Random(12);
        for ((width, codes), shape) in widths.into_iter().flat_map(|w| shapes.map(|s| (w, s))) {
            for (x, zero) in [(-128, 127), (127, -128), (-128, 0), (127, 0)] {
                for (w, weight_zero) in [(codes[0], codes[1]), (codes[1], codes[0])] {
                    let (_, n, k) = shape;
                    let mut layer = Layer::random(&mut random, shape, true);
                    layer.width = Some(width);
                    layer.x_zeros = vec![zero];
                    layer.x.fill(x);
                    layer.weights.fill(w);
                    for (granularity, params) in [
                        (Granularity::PerChannel(Axis::FIRST), n),
                        (blocks(100), n * k.div_ceil(100)),
                    ] {
                        layer.granularity = granularity;
                        layer.weight_scales = vec![0.5; params];
                        layer.weight_zeros.clear();
                        layer.assert_exact(kernel);
                        layer.weight_zeros = vec![weight_zero; params];
                        layer.assert_exact(kernel);
                    }
                }
            }
        }
    }
}

/// A layer whose weights are normally distributed and scaled by the largest of each row. Codes of
/// that kind can be summed in i16 four by four, or at least in pairs, in an order of their own.
fn like_real_ones(random: &mut Random, (m, n, k): (usize, usize, usize)) -> Layer {
    let mut layer = Layer::random(random, (m, n, k), true);
    layer.width = None;
    layer.granularity = Granularity::PerChannel(Axis::FIRST);
    layer.weight_scales = (0..n).map(|_| random.unit().abs() + 1e-3).collect();
    layer.weight_zeros.truncate(0);
    for row in layer.weights.chunks_mut(k) {
        let values: Vec<f32> = row.iter().map(|_| random.normal()).collect();
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (code, value) in row.iter_mut().zip(values) {
            *code = (value * 127.0 / largest).round() as i8;
        }
    }
    layer
}

#[test]
fn exact_where_weights_are_like_real_ones() {
    for kernel in kernels() {
        let mut random = Random(6);
        for (m, n, k) in [(1, 40, 200), (3, 33, 300), (4, 64, 384), (7, 17, 519), (13, 48, 1100)] {
            let layer = like_real_ones(&mut random, (m, n, k));
            layer.assert_exact(kernel);
            layer.assert_weight_only(kernel, &mut random);
        }
    }
}

/// A layer with small codes, but for a few neighbours that sum to as much as codes can: those that
/// `vpmaddubsw` could not add in i16. Most find other neighbours among the 16 of their block; in one
/// block of eight, too many are large for that.
fn rarely_large(random: &mut Random, (m, n, k): (usize, usize, usize)) -> Layer {
    let mut layer = Layer::random(random, (m, n, k), true);
    layer.width = None;
    layer.granularity = Granularity::PerTensor;
    layer.weight_scales.resize(1, 0.5);
    layer.weight_zeros.truncate(1);
    layer.x.iter_mut().for_each(|x| *x = random.extreme());
    layer.weights.iter_mut().for_each(|w| *w = random.code() / 4);
    // Some places are neighbours, so that codes meet that are too large for each other.
    let places: Vec<usize> = (0..k / 2).filter(|pair| pair % 17 < 2).map(|pair| 2 * pair).collect();
    for row in layer.weights.chunks_mut(k.max(1)) {
        for place in &places {
            let pairs = [[127, 127], [-128, -128], [-128, -1], [127, 2], [90, 40], [127, -128]];
            row[*place..place + 2].copy_from_slice(&pairs[random.below(6)]);
        }
        for block in row.chunks_mut(16).skip(1).step_by(8) {
            let large = [127, -128][random.below(2)];
            block.iter_mut().take(12).for_each(|code| *code = large);
        }
    }
    layer
}

#[test]
fn exact_where_few_codes_are_large_together() {
    for kernel in kernels() {
        let mut random = Random(5);
        for k in [0, 1, 2, 3, 35, 63, 64, 65, 127, 130, 257, 768, 4100] {
            for (m, n) in [(1, 1), (2, 16), (4, 17), (5, 33), (6, 15), (11, 50)] {
                let layer = rarely_large(&mut random, (m, n, k));
                layer.assert_exact(kernel);
                layer.assert_weight_only(kernel, &mut random);
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

// 64 cases of 26 rows and 650 columns on average: over a million outputs, on every kernel, most with
// enough work for several threads.
proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_kernel_and_thread_count_gives_the_same_bits(
        seed in any::<u64>(),
        m in 1usize..52,
        n in 1usize..1300,
        k in 1usize..800,
    ) {
        let mut random = Random(seed);
        let extreme = random.below(4) == 0;
        let mut layer = Layer::random(&mut random, (m, n, k), extreme);
        if random.below(3) == 0 {
            layer = layer.over_minimums(&mut random);
        }
        let expected = bits(&layer.run(Kernel::SCALAR, &mut Scratch::new()));
        for kernel in Kernel::available() {
            let run = |threads| layer.run(kernel, &mut Scratch::with_threads(threads));
            for threads in [1, 2, 3] {
                let out = in_pool(|| run(threads));
                prop_assert_eq!(&bits(&out), &expected, "{} {} {:?}", kernel, threads, layer.granularity);
            }
            prop_assert_eq!(&bits(&run(2)), &expected, "{} outside {:?}", kernel, layer.granularity);
        }
    }
}

#[test]
fn int8_outputs_are_the_float_outputs_quantized() {
    for kernel in kernels() {
        let mut random = Random(3);
        for _ in 0..20 {
            let shape = (random.below(20) + 1, random.below(80) + 1, random.below(90) + 1);
            let layer = Layer::random(&mut random, shape, false);
            let floats = layer.run(kernel, &mut Scratch::new());
            let mut expected = vec![0; floats.len()];
            let quantization = quantization(37.5, -9, (-127, 127));
            kernel.quantize(&floats, quantization, &mut expected);
            let mut codes = vec![0; floats.len()];
            let output = Output::I8 { codes: &mut codes, quantization };
            kernel
                .linear(
                    &layer.packed(kernel),
                    layer.activations(),
                    &layer.epilogue(),
                    output,
                    &mut Scratch::new(),
                )
                .unwrap();
            assert_eq!(codes, expected, "{kernel} {shape:?}");
        }
    }
}

/// Activations as floats, quantized outside by rules 1 to 3 and multiplied as codes.
fn unfused(layer: &Layer, kernel: Kernel, x: &[f32], dynamic: DynamicQuantization) -> Vec<f32> {
    let grid = Grid::new(QuantizationType::QInt8, dynamic.mapping.into(), ScaleType::F32);
    let mut layer = layer.clone();
    let rows = if dynamic.granularity == DynamicGranularity::Row { layer.m } else { 1 };
    (layer.x_scales, layer.x_zeros) = (Vec::new(), Vec::new());
    for (values, codes) in x.chunks(x.len() / rows).zip(layer.x.chunks_mut(x.len() / rows)) {
        let params = grid.params(Range::of(values).unwrap()).unwrap();
        kernel.quantize(values, Quantization::new(params, grid), codes);
        layer.x_scales.push(params.scale());
        layer.x_zeros.push(params.zero_point());
    }
    layer.run(kernel, &mut Scratch::new())
}

#[test]
fn dynamic_quantization_is_rule_7_and_then_the_product() {
    for kernel in kernels() {
        let mut random = Random(4);
        for case in 0..24 {
            let shape = (random.below(30) + 1, random.below(70) + 1, random.below(200) + 1);
            let layer = Layer::random(&mut random, shape, false);
            let x: Vec<f32> = (0..shape.0 * shape.2).map(|_| random.normal()).collect();
            let mapping = if case % 2 == 0 {
                ActivationMapping::Affine
            } else {
                ActivationMapping::Symmetric
            };
            let granularity =
                if case % 3 == 0 { DynamicGranularity::Tensor } else { DynamicGranularity::Row };
            let dynamic = DynamicQuantization { mapping, granularity };
            let mut out = vec![0.0; shape.0 * shape.1];
            kernel
                .linear(
                    &layer.packed(kernel),
                    Activations::Dynamic { values: &x, m: shape.0, quantization: dynamic },
                    &layer.epilogue(),
                    Output::F32(&mut out),
                    &mut Scratch::new(),
                )
                .unwrap();
            assert_eq!(
                bits(&out),
                bits(&unfused(&layer, kernel, &x, dynamic)),
                "{kernel} {shape:?}"
            );
        }
    }
}

/// Rule 15, as it is written: the block form of rules 6 and 13 over the blocks of activations.
fn in_blocks(layer: &Layer, x: &[f32], mapping: ActivationMapping, len: usize) -> Vec<f32> {
    let grid = Grid::new(QuantizationType::QInt8, mapping.into(), ScaleType::F32);
    let kernel = Kernel::SCALAR;
    let one = |m: usize, n: usize| {
        let mut y = 0.0f32;
        for start in (0..layer.k).step_by(len) {
            let ks = start..layer.k.min(start + len);
            let values = &x[m * layer.k..][ks.clone()];
            let params: QuantParams = grid.params(Range::of(values).unwrap()).unwrap();
            let mut codes = vec![0i8; values.len()];
            kernel.quantize(values, Quantization::new(params, grid), &mut codes);
            let block = start / layer.block().max(1);
            let (scale, zero) = layer.parameter(n, block);
            let (mut acc, mut sum) = (0i64, 0i64);
            for (code, k) in codes.iter().zip(ks) {
                let a = i64::from(*code) - i64::from(params.zero_point());
                acc += a * (i64::from(layer.weights[n * layer.k + k]) - zero);
                sum += a;
            }
            let mut term = acc as f32 * (params.scale() * scale);
            if let Some(minimum) = layer.weight_minimums.get(layer.parameter_at(n, block)) {
                term += sum as f32 * (params.scale() * minimum);
            }
            y += term;
        }
        if let Some(bias) = &layer.bias {
            y += bias[n];
        }
        if layer.relu && (y <= 0.0 || y.is_nan()) { 0.0 } else { y }
    };
    (0..layer.m * layer.n).map(|i| one(i / layer.n, i % layer.n)).collect()
}

fn dynamic_blocks(mapping: ActivationMapping, len: usize) -> DynamicQuantization {
    let granularity = DynamicGranularity::Block(NonZero::new(len as u32).unwrap());
    DynamicQuantization { mapping, granularity }
}

#[test]
fn activations_in_blocks_are_multiplied_by_rule_15() {
    let mut random = Random(15);
    let cases = [
        (None, &[1, 5, 16, 24, 32, 33, 64, 100, 500][..]),
        (Some(32), &[1, 2, 8, 16, 32]),
        (Some(64), &[32, 64, 16, 4]),
        (Some(96), &[32, 48, 96, 3]),
        (Some(100), &[20, 50, 100, 25]),
        (Some(128), &[32, 64, 128]),
        (Some(33), &[11, 33]),
    ];
    for kernel in kernels() {
        for case in 0..90 {
            let (block, lens) = cases[random.below(cases.len())];
            let len = lens[random.below(lens.len())];
            let m = if case % 6 == 0 { random.below(60) + 1 } else { random.below(13) + 1 };
            let (n, k) = (random.below(70) + 1, random.below(300) + 1);
            let mut layer = loop {
                let layer = Layer::random(&mut random, (m, n, k), case % 3 == 0);
                match (layer.granularity, block) {
                    (Granularity::PerBlock(_), None) => {}
                    (_, None) => break layer,
                    (Granularity::PerTensor, Some(block)) => {
                        let params = n * k.div_ceil(block);
                        let mut layer = layer;
                        layer.granularity = blocks(block as u32);
                        layer.weight_scales = random_scales(&mut random, params);
                        layer.weight_zeros.truncate(1);
                        break layer;
                    }
                    _ => {}
                }
            };
            if case % 2 == 0 {
                layer = layer.over_minimums(&mut random);
            }
            if case % 4 < 2 {
                layer = layer.in_halves();
            }
            let x: Vec<f32> = (0..m * k).map(|_| random.normal()).collect();
            let mapping =
                [ActivationMapping::Affine, ActivationMapping::Symmetric][random.below(2)];
            let quantization = dynamic_blocks(mapping, len);
            let weights = layer.packed_by(kernel, |kernel, weights| {
                PackedWeights::for_dynamic(kernel, weights, quantization)
            });
            let expected = bits(&in_blocks(&layer, &x, mapping, len));
            let mut scratch = Scratch::with_threads(1 + case % 3);
            for threads in [false, true] {
                let mut out = vec![f32::NAN; m * n];
                let x = Activations::Dynamic { values: &x, m, quantization };
                let (epilogue, output) = (layer.epilogue(), Output::F32(&mut out));
                let run = || kernel.linear(&weights, x, &epilogue, output, &mut scratch);
                if threads { in_pool(run) } else { run() }.unwrap();
                assert_eq!(bits(&out), expected, "{kernel} {m} {n} {k} {block:?} {len}");
            }
            // The same weights multiply rows with one scale each, and floats.
            let mut out = vec![f32::NAN; m * n];
            let (epilogue, output) = (layer.epilogue(), Output::F32(&mut out));
            let result =
                kernel.linear(&weights, layer.activations(), &epilogue, output, &mut scratch);
            let zero_points = layer.x_zeros.iter().any(|zero| *zero != 0);
            if mapping == ActivationMapping::Symmetric && zero_points {
                assert_eq!(result, Err(LinearError::ZeroPoints));
            } else {
                let expected = bits(&layer.outputs());
                assert_eq!(bits(&out), expected, "{kernel} {m} {n} {k} {block:?} {len}");
            }
            if layer.weight_minimums.is_empty() {
                let (epilogue, output) = (layer.epilogue(), Output::F32(&mut out));
                let float = Activations::Float { values: &x, m };
                kernel.linear(&weights, float, &epilogue, output, &mut scratch).unwrap();
                assert_eq!(bits(&out), bits(&weight_only(&layer, &x)), "{kernel}");
            }
        }
    }
}

#[test]
fn several_products_of_the_same_rows_are_those_of_separate_calls() {
    for kernel in kernels() {
        let mut random = Random(16);
        for case in 0..24 {
            let m = if case % 4 == 0 { random.below(90) + 1 } else { random.below(10) + 1 };
            let k = random.below(300) + 1;
            // Some are packed alike, and some are not.
            let layers: Vec<Layer> = (0..random.below(11) + 1)
                .map(|i| {
                    let n = random.below(if i % 3 == 0 { 400 } else { 70 });
                    let mut layer = Layer::random(&mut random, (m, n, k), false);
                    if case % 2 == 0 {
                        layer.granularity = Granularity::PerTensor;
                        layer.width = [None, Some(BitWidth::Four)][case / 2 % 2];
                        layer.weight_scales.resize(1, 0.5);
                        layer.weight_zeros.clear();
                        layer.weights.iter_mut().for_each(|code| *code >>= 4);
                    }
                    layer
                })
                .collect();
            let x: Vec<f32> = (0..m * k).map(|_| random.normal()).collect();
            let mapping = ActivationMapping::Affine;
            let row = DynamicQuantization { mapping, granularity: DynamicGranularity::Row };
            let tensor = DynamicQuantization { granularity: DynamicGranularity::Tensor, ..row };
            let quantization = [row, tensor, dynamic_blocks(mapping, 1 << 20)][case % 3];
            let float = Activations::Float { values: &x, m };
            for x in [Activations::Dynamic { values: &x, m, quantization }, float] {
                let packed: Vec<_> = layers.iter().map(|layer| layer.packed(kernel)).collect();
                let blocks = |layer: &Layer| matches!(layer.granularity, Granularity::PerBlock(_));
                if case % 3 == 2 && layers.iter().any(blocks) {
                    continue;
                }
                let mut outputs: Vec<_> = layers.iter().map(|of| vec![0.0; m * of.n]).collect();
                let mut products: Vec<Product<'_>> = (layers.iter().zip(&packed))
                    .zip(&mut outputs)
                    .map(|((layer, weights), y)| {
                        let (epilogue, output) = (layer.epilogue(), Output::F32(y));
                        Product { weights, epilogue, output }
                    })
                    .collect();
                let mut scratch = Scratch::with_threads(1 + case % 3);
                in_pool(|| kernel.linears(x, &mut products, &mut scratch)).unwrap();
                for ((layer, weights), y) in layers.iter().zip(&packed).zip(&outputs) {
                    let mut alone = vec![0.0; m * layer.n];
                    let (epilogue, output) = (layer.epilogue(), Output::F32(&mut alone));
                    kernel.linear(weights, x, &epilogue, output, &mut scratch).unwrap();
                    assert_eq!(bits(y), bits(&alone), "{kernel} {m} {} {k}", layer.n);
                }
            }
        }
        let (short, long) = (simple(kernel, 2, 3), simple(kernel, 2, 4));
        let (mut a, mut b) = ([0.0; 2], [0.0; 2]);
        let epilogue = Epilogue::default();
        let mut products = [
            Product { weights: &short, epilogue, output: Output::F32(&mut a) },
            Product { weights: &long, epilogue, output: Output::F32(&mut b) },
        ];
        let quantization = DynamicQuantization::default();
        let x = Activations::Dynamic { values: &[1.0; 3], m: 1, quantization };
        let error = kernel.linears(x, &mut products, &mut Scratch::new());
        let expected = LinearError::Length { of: "activations", expected: 4, found: 3 };
        assert_eq!(error, Err(expected));
        assert_eq!(kernel.linears(x, &mut [], &mut Scratch::new()), Ok(()));
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let codes = vec![1i8; 2 * 64];
    let weights = Weights {
        n: 2,
        k: 64,
        codes: Codes::Bytes(&codes),
        granularity: blocks(32),
        scales: &[1.0; 4],
        zero_points: &[],
        minimums: &[],
    };
    let kernel = Kernel::fastest();
    let symmetric = |len| dynamic_blocks(ActivationMapping::Symmetric, len);
    assert_eq!(
        PackedWeights::for_dynamic(kernel, &weights, symmetric(24)).unwrap_err(),
        PackError::BlockLengths { weights: 32, activations: 24 }
    );
    let run = |weights: &PackedWeights, len| {
        let x = Activations::Dynamic { values: &[1.0; 64], m: 1, quantization: symmetric(len) };
        let (epilogue, mut out) = (Epilogue::default(), [0.0; 2]);
        kernel.linear(weights, x, &epilogue, Output::F32(&mut out), &mut Scratch::new())
    };
    let new = PackedWeights::new(kernel, &weights).unwrap();
    assert_eq!(run(&new, 32), Ok(()));
    let (weights_len, activations) = (32, 24);
    let error = LinearError::BlockLengths { weights: weights_len, activations };
    assert_eq!(run(&new, 24), Err(error));
    let error = LinearError::OtherBlocks { packed_for: None, activations: 16 };
    assert_eq!(run(&new, 16), Err(error));
    let eight = PackedWeights::for_dynamic(kernel, &weights, symmetric(8)).unwrap();
    let error = LinearError::OtherBlocks { packed_for: Some(8), activations: 16 };
    assert_eq!(run(&eight, 16), Err(error));
    let one = Weights { granularity: Granularity::PerTensor, scales: &[1.0], ..weights };
    let one = PackedWeights::new(kernel, &one).unwrap();
    let x = Activations::Dynamic { values: &[1.0; 64], m: 1, quantization: symmetric(64) };
    let (epilogue, output) = (Epilogue::default(), Output::I32(&mut [0; 2]));
    let result = kernel.linear(&one, x, &epilogue, output, &mut Scratch::new());
    assert_eq!(result, Err(LinearError::NoSingleAccumulator));
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for kernel in kernels() {
        let mut random = Random(5);
        let layer = Layer::random(&mut random, (37, 33, 100), false);
        let weights = layer.packed(kernel);
        let x: Vec<f32> = (0..37 * 100).map(|_| random.normal()).collect();
        let run = |x: &[f32], weight_only: bool| {
            let m = x.len() / 100;
            let mut out = vec![0.0; m * 33];
            let (epilogue, output) = (layer.epilogue(), Output::F32(&mut out));
            let mut scratch = Scratch::new();
            let dynamic = DynamicQuantization::default();
            if weight_only {
                kernel.linear(
                    &weights,
                    Activations::Float { values: x, m },
                    &epilogue,
                    output,
                    &mut scratch,
                )
            } else {
                kernel.linear(
                    &weights,
                    Activations::Dynamic { values: x, m, quantization: dynamic },
                    &epilogue,
                    output,
                    &mut scratch,
                )
            }
            .unwrap();
            out
        };
        for weight_only in [false, true] {
            let all = run(&x, weight_only);
            for (x, y) in x.chunks(100).zip(all.chunks(33)) {
                assert_eq!(bits(&run(x, weight_only)), bits(y), "{kernel}");
            }
        }
    }
}

/// Rule 11, or rule 13 over minimums, as it is written.
fn weight_only(layer: &Layer, x: &[f32]) -> Vec<f32> {
    let block = layer.block().max(1);
    let one = |m: usize, n: usize| {
        let mut y = 0.0f32;
        for (b, start) in (0..layer.k).step_by(block).enumerate() {
            let (scale, zero) = layer.parameter(n, b);
            let mut p = 0.0f32;
            for k in start..layer.k.min(start + block) {
                let weight = i64::from(layer.weights[n * layer.k + k]) - zero;
                p = x[m * layer.k + k].mul_add(weight as f32, p);
            }
            y = match layer.weight_minimums.get(layer.parameter_at(n, b)) {
                Some(minimum) => {
                    let row = &x[m * layer.k..][start..layer.k.min(start + block)];
                    let sum = row.iter().fold(0.0, |sum, x| sum + x);
                    y + (p * scale + sum * minimum)
                }
                None if block >= layer.k => p * scale,
                None => y + p * scale,
            };
        }
        if let Some(bias) = &layer.bias {
            y += bias[n];
        }
        if layer.relu && (y <= 0.0 || y.is_nan()) { 0.0 } else { y }
    };
    (0..layer.m * layer.n).map(|i| one(i / layer.n, i % layer.n)).collect()
}

#[test]
fn weight_only_is_rule_11_on_every_kernel_and_thread_count() {
    for kernel in kernels() {
        let mut random = Random(6);
        for case in 0..150 {
            let shape = match case {
                70.. => (random.below(8) + 1, random.below(150) + 1, random.below(300) + 1),
                0..60 => (random.below(15) + 1, random.below(70) + 1, random.below(200) + 1),
                60..65 => (random.below(250) + 90, random.below(70) + 1, random.below(70) + 1),
                _ => (2, 2000 + case, 1000),
            };
            let layer = Layer::random(&mut random, shape, false);
            let x: Vec<f32> = (0..shape.0 * shape.2).map(|_| random.normal()).collect();
            let expected = bits(&weight_only(&layer, &x));
            for pack in PACKS {
                let mut out = vec![0.0; shape.0 * shape.1];
                let weights = layer.packed_by(kernel, pack);
                let mut scratch = Scratch::with_threads(1 + case % 2);
                let (epilogue, output) = (layer.epilogue(), Output::F32(&mut out));
                in_pool(|| {
                    kernel.linear(
                        &weights,
                        Activations::Float { values: &x, m: shape.0 },
                        &epilogue,
                        output,
                        &mut scratch,
                    )
                })
                .unwrap();
                assert_eq!(bits(&out), expected, "{kernel} {shape:?} {:?}", layer.granularity);
            }
        }
    }
}

/// Values at the ends of the range of floats, among others.
fn any_float(random: &mut Random, infinite: bool) -> f32 {
    let tiny = f32::from_bits(random.below(1 << 12) as u32);
    let value = match random.below(8) {
        0 | 1 => tiny,
        2 => f32::MIN_POSITIVE * random.normal(),
        3 => f32::MAX / 8.0 * random.unit(),
        4 if infinite => f32::INFINITY,
        5 => 0.0,
        _ => random.normal(),
    };
    if random.below(2) == 0 { value } else { -value }
}

#[test]
fn weight_only_is_rule_11_for_tiny_huge_and_infinite_activations() {
    // Which NaN it is depends on the order of operands.
    let bits = |values: &[f32]| -> Vec<u32> {
        values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
    };
    for kernel in kernels() {
        let mut random = Random(7);
        for case in 0..96 {
            let m = [1, 2, 3, 4, 5, 6, 7, 13][case % 8];
            let shape = (m, random.below(150) + 1, random.below(200) + 1);
            let mut layer = Layer::random(&mut random, shape, case % 3 == 0);
            layer.width = if case % 16 < 8 { None } else { Some(BitWidth::Four) };
            let shift = if case % 16 < 8 { 0 } else { 4 };
            layer.weights.iter_mut().for_each(|code| *code = random.code() >> shift);
            layer.weight_zeros.iter_mut().for_each(|zero| *zero >>= shift);
            let infinite = case % 4 == 0;
            let mut x: Vec<f32> =
                (0..m * shape.2).map(|_| any_float(&mut random, infinite)).collect();
            if case % 5 == 0 {
                x.iter_mut().for_each(|x| *x *= f32::MIN_POSITIVE);
            }
            let expected = bits(&weight_only(&layer, &x));
            for pack in PACKS {
                let mut out = vec![0.0; m * shape.1];
                let (epilogue, output) = (layer.epilogue(), Output::F32(&mut out));
                let (weights, scratch) = (layer.packed_by(kernel, pack), &mut Scratch::new());
                kernel
                    .linear(
                        &weights,
                        Activations::Float { values: &x, m },
                        &epilogue,
                        output,
                        scratch,
                    )
                    .unwrap();
                assert_eq!(bits(&out), expected, "{kernel} {shape:?} {:?}", layer.granularity);
            }
        }
    }
}

fn blocks(len: u32) -> Granularity {
    Granularity::PerBlock(Block::new(len).expect("some elements"))
}

fn simple(kernel: Kernel, n: usize, k: usize) -> PackedWeights {
    let codes = vec![1; n * k];
    let codes = Codes::Bytes(&codes);
    let (granularity, scales, zero_points) = (Granularity::PerTensor, &[0.5][..], &[][..]);
    let minimums = &[];
    PackedWeights::new(kernel, &Weights { n, k, codes, granularity, scales, zero_points, minimums })
        .unwrap()
}

#[test]
fn non_finite_activations_are_named() {
    for kernel in kernels() {
        let weights = simple(kernel, 3, 70);
        let mut out = vec![0.0; 9];
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1.0; 210];
            x[139] = bad;
            x[205] = bad;
            let block = DynamicGranularity::Block(NonZero::new(70).unwrap());
            for granularity in [DynamicGranularity::Row, DynamicGranularity::Tensor, block] {
                let dynamic = DynamicQuantization { granularity, ..DynamicQuantization::default() };
                let result = kernel.linear(
                    &weights,
                    Activations::Dynamic { values: &x, m: 3, quantization: dynamic },
                    &Epilogue::default(),
                    Output::F32(&mut out),
                    &mut Scratch::new(),
                );
                let expected = NonFinite { index: 139, value: bad };
                assert_eq!(result, Err(LinearError::NonFinite(expected)), "{kernel}");
            }
            let quantization = quantization(0.1, 3, (-128, 127));
            let result = kernel.linear(
                &weights,
                Activations::Static { values: &x, m: 3, quantization },
                &Epilogue::default(),
                Output::F32(&mut out),
                &mut Scratch::new(),
            );
            if bad.is_nan() {
                let expected = NonFinite { index: 139, value: bad };
                assert_eq!(result, Err(LinearError::NonFinite(expected)), "{kernel}");
            } else {
                let expected = (69 * 10 + 124) as f32 * (0.1 * 0.5);
                assert_eq!((result, out[3].to_bits()), (Ok(()), expected.to_bits()), "{kernel}");
            }
        }
    }
}

#[test]
fn the_first_non_finite_activation_is_named_whichever_thread_finds_it() {
    let (n, k) = (512, 512);
    for kernel in kernels() {
        let weights = simple(kernel, n, k);
        // Few rows, which threads quantize for each other, on each kernel, and many, which they have
        // for themselves.
        for m in [10, 20, 600] {
            let mut x = vec![1.0; m * k];
            let (first, second) = (m / 5 * k + 7, m * k - 3);
            (x[first], x[second]) = (f32::INFINITY, f32::NAN);
            let mut out = vec![0.0; m * n];
            for threads in [1, 2, 3] {
                let output = Output::F32(&mut out);
                let mut scratch = Scratch::with_threads(threads);
                let (dynamic, epilogue) = (DynamicQuantization::default(), Epilogue::default());
                let result = in_pool(|| {
                    kernel.linear(
                        &weights,
                        Activations::Dynamic { values: &x, m, quantization: dynamic },
                        &epilogue,
                        output,
                        &mut scratch,
                    )
                });
                let expected = NonFinite { index: first, value: f32::INFINITY };
                assert_eq!(result, Err(LinearError::NonFinite(expected)), "{kernel} {m} {threads}");
            }
        }
    }
}

#[test]
fn what_cannot_be_packed_or_called_is_refused() {
    let codes = [1i8; 12];
    let good = Weights {
        n: 3,
        k: 4,
        codes: Codes::Bytes(&codes),
        granularity: Granularity::PerChannel(Axis::FIRST),
        scales: &[1.0; 3],
        zero_points: &[],
        minimums: &[],
    };
    let pack = |weights: Weights<'_>| PackedWeights::new(Kernel::SCALAR, &weights).unwrap_err();
    assert_eq!(pack(Weights { n: 4, ..good }), PackError::CodesLength { n: 4, k: 4, found: 12 });
    assert_eq!(
        pack(Weights { scales: &[1.0], ..good }),
        PackError::ScalesLength { expected: 3, found: 1 }
    );
    assert_eq!(
        pack(Weights { zero_points: &[1; 2], ..good }),
        PackError::ZeroPointsLength { expected: 3, found: 2 }
    );
    assert_eq!(
        pack(Weights { minimums: &[1.0], ..good }),
        PackError::MinimumsLength { expected: 3, found: 1 }
    );
    let axis = Axis::LAST;
    let columns = Granularity::PerChannel(axis);
    assert_eq!(pack(Weights { granularity: columns, ..good }), PackError::Axis { axis });
    let long = vec![0i8; 65_794];
    let mut weights =
        Weights { n: 1, k: 65_793, codes: Codes::Bytes(&long[1..]), scales: &[1.0], ..good };
    assert!(PackedWeights::new(Kernel::SCALAR, &weights).is_ok());
    (weights.k, weights.codes) = (65_794, Codes::Bytes(&long));
    assert_eq!(pack(weights), PackError::TooLong { k: 65_794, limit: 65_793 });
    weights.granularity = blocks(32);
    let scales = vec![1.0; 65_794usize.div_ceil(32)];
    assert!(PackedWeights::new(Kernel::SCALAR, &Weights { scales: &scales, ..weights }).is_ok());

    let call = |kernel: Kernel, weights: &PackedWeights, x: &[f32], out: Output<'_>| {
        let (dynamic, epilogue) = (DynamicQuantization::default(), Epilogue::default());
        kernel.linear(
            weights,
            Activations::Dynamic { values: x, m: 2, quantization: dynamic },
            &epilogue,
            out,
            &mut Scratch::new(),
        )
    };
    let packed = PackedWeights::new(Kernel::SCALAR, &good).unwrap();
    let mut out = [0.0; 6];
    let error = call(Kernel::SCALAR, &packed, &[0.0; 7], Output::F32(&mut out)).unwrap_err();
    assert_eq!(error, LinearError::Length { of: "activations", expected: 8, found: 7 });
    let error = call(Kernel::SCALAR, &packed, &[0.0; 8], Output::F32(&mut out[1..])).unwrap_err();
    assert_eq!(error, LinearError::Length { of: "output", expected: 6, found: 5 });
    let huge = Weights { n: 3, k: 0, codes: Codes::Bytes(&[]), ..good };
    let huge = PackedWeights::new(Kernel::SCALAR, &huge).unwrap();
    let x = Activations::Codes { codes: &[], m: usize::MAX / 2, scales: &[1.0], zero_points: &[] };
    let (epilogue, output) = (Epilogue::default(), Output::F32(&mut []));
    let error = Kernel::SCALAR.linear(&huge, x, &epilogue, output, &mut Scratch::new());
    let expected = usize::MAX;
    assert_eq!(error, Err(LinearError::Length { of: "output", expected, found: 0 }));

    let blocks = Weights { granularity: blocks(2), scales: &[1.0; 6], ..good };
    let blocks = PackedWeights::new(Kernel::SCALAR, &blocks).unwrap();
    let error = call(Kernel::SCALAR, &blocks, &[0.0; 8], Output::I32(&mut [0; 6])).unwrap_err();
    assert_eq!(error, LinearError::NoSingleAccumulator);
    if Kernel::fastest() != Kernel::SCALAR {
        let error = call(Kernel::fastest(), &packed, &[0.0; 8], Output::F32(&mut out)).unwrap_err();
        let (packed_for, called) = ("scalar", Kernel::fastest().name());
        assert_eq!(error, LinearError::OtherKernel { packed_for, called });
    }
}

fn codes(values: &serde_json::Value) -> Vec<i8> {
    values.as_array().unwrap().iter().map(|value| value.as_i64().unwrap() as i8).collect()
}

#[test]
fn golden_matmul_integer() {
    for row in golden::rows("onnxruntime.json", "matmul_integer") {
        let size = |name: &str| row[name].as_u64().unwrap() as usize;
        let (m, k, n) = (size("m"), size("k"), size("n"));
        let (a, b) = (codes(&row["a"]), codes(&row["b"]));
        let zero = row["a_zero_point"].as_i64().unwrap() as i8;
        let expected: Vec<i32> =
            row["y"].as_array().unwrap().iter().map(|y| y.as_i64().unwrap() as i32).collect();
        // ONNX stores B as [k, n].
        let transposed: Vec<i8> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        for kernel in kernels() {
            let weights = Weights {
                n,
                k,
                codes: Codes::Bytes(&transposed),
                granularity: Granularity::PerTensor,
                scales: &[1.0],
                zero_points: &[],
                minimums: &[],
            };
            let weights = PackedWeights::new(kernel, &weights).unwrap();
            let x = Activations::Codes { codes: &a, m, scales: &[1.0], zero_points: &[zero] };
            let mut sums = vec![0; m * n];
            let output = Output::I32(&mut sums);
            kernel.linear(&weights, x, &Epilogue::default(), output, &mut Scratch::new()).unwrap();
            assert_eq!(sums, expected, "{kernel}");
        }
    }
}

/// Without rows, nothing bounds `k`; without inputs, nothing bounds `n`.
#[test]
fn empty_weights_of_any_size_are_packed_without_memory_or_refused() {
    for kernel in kernels() {
        for (n, k, granularity) in [
            (0, usize::MAX, Granularity::PerTensor),
            (0, usize::MAX, blocks(32)),
            (0, 60_000, blocks(1)),
            (0, 3, Granularity::PerChannel(Axis::FIRST)),
            (usize::MAX, 0, Granularity::PerTensor),
            (usize::MAX, 0, blocks(32)),
        ] {
            let scales: &[f32] = if granularity == Granularity::PerTensor { &[1.0] } else { &[] };
            let codes = Codes::Bytes(&[]);
            let (zero_points, minimums) = (&[][..], &[][..]);
            let weights = Weights { n, k, codes, granularity, scales, zero_points, minimums };
            for pack in [PackedWeights::new as Pack, PackedWeights::for_floats] {
                match pack(kernel, &weights) {
                    Ok(packed) => assert_eq!((packed.n(), packed.k()), (n, k)),
                    Err(error) => {
                        let limit = i32::MAX as usize / (255 * 128);
                        assert_eq!(error, PackError::TooLong { k, limit });
                    }
                }
            }
        }
    }
}

#[test]
fn golden_dynamic_quantize_linear() {
    let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
    for row in golden::rows("onnxruntime.json", "dynamic_quantize_linear") {
        let x = golden::floats(&row["x"]);
        let expected: Vec<i8> = row["quantized_u8"]
            .as_array()
            .unwrap()
            .iter()
            .map(|code| (code.as_i64().unwrap() - 128) as i8)
            .collect();
        for kernel in kernels() {
            let (lo, hi) = kernel.min_max(&x).unwrap();
            let range = Range::new(lo.min(0.0), hi.max(0.0)).unwrap();
            let params = grid.params(range).unwrap();
            // ONNX Runtime computes a dynamic scale in f32, rule 2 in f64: one ulp apart at most.
            let scale = golden::float(&row["scale"]);
            assert!(params.scale().to_bits().abs_diff(scale.to_bits()) <= 1, "{kernel}");
            let zero = i32::from(params.zero_point());
            assert_eq!(i64::from(zero) + 128, row["zero_point_u8"].as_i64().unwrap());
            let mut codes = vec![0; x.len()];
            kernel.quantize(&x, quantization(scale, zero as i8, (-128, 127)), &mut codes);
            assert_eq!(codes, expected, "{kernel}");
        }
    }
}
