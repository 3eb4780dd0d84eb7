//! Integer products on every kernel: exact against i64, and the same output bits everywhere.

use quant::kernel::{
    Activations, Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Sharing, SubByte, Weights,
};
use tests::kernels::{Random, kernels};

/// A layer as plain numbers, and what rule 6 says about it.
#[derive(Clone, Debug)]
struct Layer {
    m: usize,
    n: usize,
    k: usize,
    width: Option<SubByte>,
    sharing: Sharing,
    weights: Vec<i8>,
    weight_scales: Vec<f32>,
    weight_zeros: Vec<i8>,
    x: Vec<i8>,
    x_scales: Vec<f32>,
    x_zeros: Vec<i8>,
    bias: Option<Vec<f32>>,
    relu: bool,
}

impl Layer {
    fn random(random: &mut Random, (m, n, k): (usize, usize, usize), extreme: bool) -> Self {
        let width = [None, None, Some(SubByte::Four), Some(SubByte::Two)][random.below(4)];
        let sharing = match random.below(4) {
            0 => Sharing::Tensor,
            1 | 2 => Sharing::Channel,
            _ => Sharing::Block([1, 3, 8, 32, 33, 64, 100][random.below(7)]),
        };
        let shift = width.map_or(0, |width| 8 - width.bits() as u32);
        let code = |random: &mut Random| if extreme { random.extreme() } else { random.code() };
        let params = match sharing {
            Sharing::Tensor => 1,
            Sharing::Channel => n,
            Sharing::Block(len) => n * k.div_ceil(len),
        };
        let rows = if random.below(2) == 0 { 1 } else { m };
        Self {
            weights: (0..n * k).map(|_| code(random) >> shift).collect(),
            weight_scales: (0..params).map(|_| random.unit().abs() + 1e-3).collect(),
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
            bias: (random.below(2) == 0).then(|| (0..n).map(|_| random.unit() * 50.0).collect()),
            relu: random.below(3) == 0,
            m,
            n,
            k,
            width,
            sharing,
        }
    }

    fn packed(&self, kernel: Kernel) -> PackedWeights {
        let mut bytes = Vec::new();
        let codes = match self.width {
            None => Codes::Bytes(&self.weights),
            Some(width) => {
                for row in self.weights.chunks(self.k) {
                    let mut packed = vec![0; width.row_bytes(self.k)];
                    Kernel::SCALAR.pack(width, row, &mut packed);
                    bytes.extend(packed);
                }
                Codes::Packed(width, &bytes)
            }
        };
        let weights = Weights {
            n: self.n,
            k: self.k,
            codes,
            sharing: self.sharing,
            scales: &self.weight_scales,
            zero_points: &self.weight_zeros,
        };
        PackedWeights::new(kernel, &weights).unwrap()
    }

    fn activations(&self) -> Activations<'_> {
        Activations {
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
        match self.sharing {
            Sharing::Block(len) => len,
            _ => self.k,
        }
    }

    fn parameter(&self, n: usize, block: usize) -> (f32, i64) {
        let at = match self.sharing {
            Sharing::Tensor => 0,
            Sharing::Channel => n,
            Sharing::Block(len) => n * self.k.div_ceil(len) + block,
        };
        let zero = self.weight_zeros.get(at).copied().unwrap_or(0);
        (self.weight_scales[at], i64::from(zero))
    }

    /// The exact sum over a block.
    fn sum(&self, m: usize, n: usize, block: usize) -> i32 {
        let x_zero = match self.x_zeros.len() {
            0 => 0,
            1 => i64::from(self.x_zeros[0]),
            _ => i64::from(self.x_zeros[m]),
        };
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
        let x_scale = self.x_scales[if self.x_scales.len() == 1 { 0 } else { m }];
        let scaled = |block| self.sum(m, n, block) as f32 * (x_scale * self.parameter(n, block).0);
        let mut y = match self.sharing {
            Sharing::Block(len) => {
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
            .linear_i8(
                &weights,
                self.activations(),
                &self.epilogue(),
                Output::F32(&mut out),
                scratch,
            )
            .unwrap();
        out
    }

    fn assert_exact(&self, kernel: Kernel) {
        let mut scratch = Scratch::new();
        let out = self.run(kernel, &mut scratch);
        let expected = self.outputs();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let shape = (self.m, self.n, self.k, self.sharing, self.width);
        assert_eq!(bits(&out), bits(&expected), "{kernel} {shape:?}");
        if matches!(self.sharing, Sharing::Block(_)) {
            return;
        }
        let mut sums = vec![0; self.m * self.n];
        let weights = self.packed(kernel);
        kernel
            .linear_i8(
                &weights,
                self.activations(),
                &Epilogue::default(),
                Output::Sums(&mut sums),
                &mut scratch,
            )
            .unwrap();
        for (i, sum) in sums.iter().enumerate() {
            assert_eq!(*sum, self.sum(i / self.n, i % self.n, 0), "{kernel} {shape:?} {i}");
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
        for k in (0..=135).chain([255, 256, 257]) {
            let (m, n) = (random.below(8) + 1, random.below(40) + 1);
            Layer::random(&mut random, (m, n, k), k % 2 == 0).assert_exact(kernel);
        }
    }
}

#[test]
fn exact_where_every_product_is_extreme() {
    for kernel in kernels() {
        let mut random = Random(2);
        for (x, w) in [(-128, -128), (-128, 127), (127, -128), (127, 127)] {
            for zero in [-128, 0, 127] {
                for k in [4, 64, 513, 16_000] {
                    let mut layer = Layer::random(&mut random, (3, 18, k), true);
                    layer.width = None;
                    layer.sharing = Sharing::Tensor;
                    layer.weight_scales.resize(18, 0.5);
                    layer.weight_scales.truncate(1);
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
