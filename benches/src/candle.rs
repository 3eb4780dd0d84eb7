//! Quantized products of candle: blocks of 32 or 256 along K, activations quantized by blocks too.

use crate::data::WeightData;
use crate::measure::Subject;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

const TYPES: [(GgmlDType, &str); 3] = [
    (GgmlDType::Q8_0, "candle Q8_0"),
    (GgmlDType::Q4_0, "candle Q4_0"),
    (GgmlDType::Q4K, "candle Q4K"),
];

/// One subject for each type whose blocks divide K.
pub(crate) fn subjects<'a>(
    subjects: &mut Vec<Subject<'a>>,
    data: &WeightData,
    x: &[f32],
    (m, k, n): (usize, usize, usize),
    copies: usize,
) {
    let gops = 2.0 * (m * n * k) as f64;
    for (of, name) in TYPES.into_iter().filter(|(of, _)| k.is_multiple_of(of.block_size())) {
        let weights = Tensor::from_slice(&data.values, (n, k), &Device::Cpu).unwrap();
        let layer = || QMatMul::from_qtensor(QTensor::quantize(&weights, of).unwrap()).unwrap();
        let layers: Vec<_> = (0..copies).map(|_| layer()).collect();
        let x = Tensor::from_slice(x, (m, k), &Device::Cpu).unwrap();
        let mut call = 0;
        let run = move || {
            call = (call + 1) % layers.len();
            std::hint::black_box(layers[call].forward(&x).unwrap());
        };
        subjects.push(Subject::new(name, run).work("gops", gops));
    }
}
