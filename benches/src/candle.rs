//! Candle: quantized products with blocks of 32 or 256 along K, activations quantized by blocks too,
//! and convolutions in floats.
//!
//! Its products run on a pool of its own, of as many threads as `RAYON_NUM_THREADS` says or the
//! machine has; so it is a subject only where that is the number of threads to be timed.

use crate::data::WeightData;
use crate::measure::Subject;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use quant::kernel::ConvShape;

const TYPES: [(GgmlDType, &str); 3] = [
    (GgmlDType::Q8_0, "candle Q8_0"),
    (GgmlDType::Q4_0, "candle Q4_0"),
    (GgmlDType::Q4K, "candle Q4K"),
];

/// Whether candle uses so many threads in this process.
pub(crate) fn uses(threads: usize) -> bool {
    candle_core::utils::get_num_threads() == threads
}

/// The convolution of one image in floats.
pub(crate) fn conv<'a>(
    subjects: &mut Vec<Subject<'a>>,
    shape: &ConvShape,
    [height, width]: [usize; 2],
    weights: &[f32],
    x: &[f32],
    gops: f64,
) {
    let [window, _] = shape.kernel_size;
    let inputs = shape.in_channels / shape.groups;
    let of = (shape.out_channels, inputs, window, window);
    let weights = Tensor::from_slice(weights, of, &Device::Cpu).unwrap();
    let x = Tensor::from_slice(x, (1, shape.in_channels, height, width), &Device::Cpu).unwrap();
    let (padding, stride, groups) = (shape.padding[0][0], shape.stride[0], shape.groups);
    let run = move || {
        std::hint::black_box(x.conv2d(&weights, padding, stride, 1, groups).unwrap());
    };
    subjects.push(Subject::new("candle conv2d f32", run).work("gops", gops));
}

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
