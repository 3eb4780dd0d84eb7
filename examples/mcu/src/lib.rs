#![no_std]
#![forbid(unsafe_code)]
//! A network for handwritten digits in static int8 on a microcontroller, without a heap.
//!
//! Three linear layers, 64-32-32-10, with a `ReLU` between, from a record in flash: that of
//! `examples/digits`. Weights stay there and are read in place. Products are integers; floats are the
//! scales, the biases, and what a layer passes to the next one before it becomes codes again. The
//! classes and the bits of the logits are those of `quant-nn` on any machine.

use quant_kernels::row::{self, OutputRow, RowError};
use quant_kernels::scheme::Quantization;
use quant_record::{Floats, Quantized, Record, RecordError};

/// The record: weights in int8, biases in f32, and how the inputs of layers are quantized.
pub const RECORD: &[u8] = include_bytes!("../digits-int8.quant");

/// The images that were held out from training, 64 pixels from 0 to 16, each followed by the digit.
pub const SAMPLES: &[[u8; PIXELS + 1]] = include_bytes!("../held-out.bin").as_chunks().0;

/// Pixels of an image.
pub const PIXELS: usize = 64;

/// Outputs of the first and of the second layer.
const HIDDEN: usize = 32;

/// Digits.
pub const CLASSES: usize = 10;

/// The network over the bytes of a record.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    layers: [Layer<'a>; 3],
}

/// A linear layer over the bytes of a record.
#[derive(Clone, Copy, Debug)]
struct Layer<'a> {
    weight: Quantized<'a>,
    bias: Floats<'a>,
    input: Quantization,
}

/// Why there is no network, or why it does not run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum NetworkError<'a> {
    /// The bytes are no record.
    Record(RecordError<'a>),
    /// The record has no layer with this name, shape and scheme.
    Layer {
        /// The name.
        name: &'static str,
    },
    /// A layer refuses its input.
    Row(RowError),
}

impl<'a> Network<'a> {
    /// The network that a record has.
    ///
    /// # Errors
    /// The bytes are no record, or that of another model.
    pub fn new(record: &'a [u8]) -> Result<Self, NetworkError<'a>> {
        let record = Record::new(record).map_err(NetworkError::Record)?;
        let layer = |name, names, outputs, inputs| {
            let layer = Layer::find(&record, names, [outputs, inputs]);
            layer.ok_or(NetworkError::Layer { name })
        };
        let layers = [
            layer("fc1", ["fc1.weight", "fc1.bias", "fc1.input"], HIDDEN, PIXELS)?,
            layer("fc2", ["fc2.weight", "fc2.bias", "fc2.input"], HIDDEN, HIDDEN)?,
            layer("fc3", ["fc3.weight", "fc3.bias", "fc3.input"], CLASSES, HIDDEN)?,
        ];
        Ok(Self { layers })
    }

    /// A score for each digit.
    ///
    /// # Errors
    /// None for the record of this example.
    pub fn logits(&self, pixels: &[u8; PIXELS]) -> Result<[f32; CLASSES], NetworkError<'a>> {
        let [fc1, fc2, fc3] = &self.layers;
        let hidden: [f32; HIDDEN] = fc1.forward(pixels.map(|pixel| f32::from(pixel) / 16.0))?;
        let hidden: [f32; HIDDEN] = fc2.forward(hidden.map(relu))?;
        fc3.forward(hidden.map(relu))
    }
}

impl<'a> Layer<'a> {
    /// The layer of these names, if it has this shape, int8 codes, a scale for each output, and a
    /// static input.
    fn find(
        record: &Record<'a>,
        [weight, bias, input]: [&str; 3],
        shape: [usize; 2],
    ) -> Option<Self> {
        let tensor = record.tensor(weight).filter(|tensor| **tensor.shape() == shape)?;
        let weight = tensor.quantized()?;
        let bias = record.tensor(bias)?.floats()?;
        let is_per_output = weight.scales().len() == shape[0] && weight.groups().group_of(0) == 0;
        let fits = is_per_output && weight.codes().width() == 8 && bias.len() == shape[0];
        fits.then_some(Self { weight, bias, input: record.state(input)?.static_input()? })
    }

    /// `y = x · wᵀ + b`, in integers but for the scales.
    fn forward<const K: usize, const N: usize>(
        &self,
        x: [f32; K],
    ) -> Result<[f32; N], NetworkError<'a>> {
        let mut codes = [0; K];
        row::quantize(x, self.input, &mut codes).map_err(NetworkError::Row)?;
        let mut outputs = [0.0; N];
        for (n, output) in outputs.iter_mut().enumerate() {
            let row =
                self.row(n).ok_or(NetworkError::Layer { name: "another number of outputs" })?;
            let y = row.and_then(|row| row.product(&codes, self.input.params));
            *output = y.map_err(NetworkError::Row)?;
        }
        Ok(outputs)
    }

    /// The weights of an output, in place.
    fn row(&self, n: usize) -> Option<Result<OutputRow<'a>, RowError>> {
        let codes = self.weight.codes().row(n)?.as_i8()?;
        Some(OutputRow::new(codes, self.weight.params(n)?, self.bias.get(n)))
    }
}

/// What is not greater than 0 becomes `+0.0`.
fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// The digit of the highest score; of equal ones the last, as in `examples`.
pub fn class(logits: &[f32; CLASSES]) -> usize {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(digit, _)| digit)
}

/// The bytes of a [`line()`].
pub const LINE: usize = 2 + 9 * CLASSES;

/// The class and the bits of the logits as a line of text. It takes a tenth of the flash that
/// `core::fmt` takes.
pub fn line(logits: &[f32; CLASSES]) -> [u8; LINE] {
    let mut line = [b' '; LINE];
    line[0] = b'0' + class(logits) as u8;
    line[LINE - 1] = b'\n';
    let (fields, _) = line[1..].as_chunks_mut::<9>();
    for (field, logit) in fields.iter_mut().zip(logits) {
        for (digit, place) in field[1..].iter_mut().zip((0..8).rev()) {
            let nibble = (logit.to_bits() >> (4 * place)) as u8 & 15;
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
    }
    line
}
