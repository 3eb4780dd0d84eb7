//! Numbers to multiply: drawn like real ones, and at full range.

/// How weights and activations are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Normal, each channel with its own deviation, quantized symmetrically by its own range.
    Real,
    /// Every code alike, extremes included.
    Full,
}

impl Draw {
    pub(crate) const ALL: [Self; 2] = [Self::Real, Self::Full];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Full => "full",
        }
    }
}

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f32 {
        ((self.bits() >> 40) as f32 + 0.5) / (1u64 << 24) as f32
    }

    /// By Box and Muller, so that the tails are those of a normal distribution.
    pub(crate) fn normal(&mut self) -> f32 {
        let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), self.unit());
        radius * (angle * core::f32::consts::TAU).cos()
    }
}

/// Weights `[n, k]` as floats, and their codes and scales of `bits` per channel.
pub(crate) struct WeightData {
    pub(crate) values: Vec<f32>,
    pub(crate) codes: Vec<i8>,
    pub(crate) scales: Vec<f32>,
}

pub(crate) fn weights(draw: Draw, n: usize, k: usize, bits: u32, seed: u64) -> WeightData {
    let mut random = Random(seed);
    let half = 1 << (bits - 1);
    let mut data = WeightData { values: Vec::new(), codes: Vec::new(), scales: Vec::new() };
    for _ in 0..n {
        let deviation = 0.02 * (0.5 * random.normal()).exp();
        let row: Vec<f32> = match draw {
            Draw::Real => (0..k).map(|_| random.normal() * deviation).collect(),
            Draw::Full => {
                let code = |random: &mut Random| (random.bits() >> 33) as i64 % (2 * half) - half;
                (0..k).map(|_| code(&mut random) as f32 * deviation).collect()
            }
        };
        let scale = match draw {
            Draw::Real => row.iter().fold(0f32, |a, v| a.max(v.abs())) / (half - 1) as f32,
            Draw::Full => deviation,
        };
        let code = |v: &f32| (v / scale).round_ties_even().clamp(-half as f32, (half - 1) as f32);
        data.codes.extend(row.iter().map(|v| code(v) as i8));
        data.values.extend(row);
        data.scales.push(scale);
    }
    data
}

/// Activations `[m, k]`: normal with some large columns, as transformers have them, or uniform.
pub(crate) fn activations(draw: Draw, m: usize, k: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..m * k)
        .map(|i| match draw {
            Draw::Real => random.normal() * if i % k % 97 == 5 { 6.0 } else { 1.0 },
            Draw::Full => random.unit() * 2.0 - 1.0,
        })
        .collect()
}
