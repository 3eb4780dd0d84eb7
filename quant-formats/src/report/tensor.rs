//! What a page shows of one tensor.

use std::borrow::Cow;

use quant::__private::check_len;
use quant::ParamId;
use quant::tensor::{QuantizedTensor, TensorError};

use super::measure::{Histogram, Layout, QuantError, Quantized, Values, quant_error};

/// What a page shows of one tensor: the distribution of its values, the grid of its codes, and the
/// quantization error. It takes less than 4 KiB.
#[derive(Clone, Debug)]
pub struct TensorReport {
    pub(super) id: ParamId,
    pub(super) shape: Vec<usize>,
    pub(super) note: Cow<'static, str>,
    pub(super) bytes_before: u64,
    pub(super) bytes_after: u64,
    pub(super) values: Values,
    pub(super) histogram: Histogram,
    pub(super) quantized: Option<Quantized>,
    pub(super) error: Option<QuantError>,
}

impl TensorReport {
    /// Reports on a tensor with these float values, in row-major order, and on its quantized
    /// version; without one, the tensor stays float.
    ///
    /// Values that are NaN or infinite are counted and otherwise ignored.
    ///
    /// ```
    /// use quant_formats::report::{Report, TensorReport};
    /// use quant::quantize::quantize_values;
    /// use quant::MinMaxCalibration;
    ///
    /// let values: Vec<f32> = (0..96).map(|i| (i as f32).sin()).collect();
    /// let scheme = "per-channel-symmetric-int8".parse()?;
    /// let quantized = quantize_values(&[8, 12], &values, scheme, &MinMaxCalibration {})?;
    /// let weight = TensorReport::new("fc.weight", &[8, 12], &values, Some(&quantized))?;
    /// let bias = TensorReport::new("fc.bias", &[8], &[0.0; 8], None)?.note("rank 1");
    /// let mut page = Vec::new();
    /// Report::new("my model", [weight, bias]).write_html(&mut page)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The number of values is not the product of the shape, or the quantized tensor has another
    /// shape.
    pub fn new(
        id: impl Into<ParamId>,
        shape: &[usize],
        values: &[f32],
        quantized: Option<&QuantizedTensor>,
    ) -> Result<Self, TensorError> {
        check_len(shape, values.len())?;
        match quantized {
            Some(tensor) if tensor.shape() != shape => {
                return Err(TensorError::shape(shape, tensor.shape()));
            }
            _ => {}
        }
        let layout = Layout::of(shape, quantized);
        let error = quantized.map(|tensor| quant_error(tensor, values, layout));
        Ok(Self::described(id.into(), shape, values, quantized, error))
    }

    /// Reports on a quantized tensor without float values: the distribution is that of the
    /// dequantized values, and the error is unknown.
    pub fn of_quantized(id: impl Into<ParamId>, tensor: &QuantizedTensor) -> Self {
        Self::described(id.into(), tensor.shape(), &tensor.dequantize(), Some(tensor), None)
    }

    fn described(
        id: ParamId,
        shape: &[usize],
        values: &[f32],
        tensor: Option<&QuantizedTensor>,
        error: Option<QuantError>,
    ) -> Self {
        let bytes_before = 4 * values.len() as u64;
        let quantized = tensor.and_then(Quantized::new);
        let described = Values::new(values, Layout::of(shape, tensor));
        let histogram = Histogram::new(values, &described, quantized.as_ref());
        Self {
            id,
            shape: shape.into(),
            note: "".into(),
            bytes_before,
            bytes_after: tensor.map_or(bytes_before, |tensor| tensor.byte_count() as u64),
            values: described,
            histogram,
            quantized,
            error,
        }
    }

    /// Adds a remark, such as the reason why the tensor stays float.
    #[must_use]
    pub fn note(self, note: impl Into<Cow<'static, str>>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Sets the bytes before quantization, by default 4 for each value. A tensor that stays float
    /// has as many afterwards.
    #[must_use]
    pub fn bytes_before(self, bytes: u64) -> Self {
        let bytes_after = if self.quantized.is_some() { self.bytes_after } else { bytes };
        Self { bytes_before: bytes, bytes_after, ..self }
    }

    /// The name of the tensor, a path of parts with dots between them.
    pub fn id(&self) -> &ParamId {
        &self.id
    }

    /// The signal-to-quantization-noise ratio in dB; `None` if the tensor is float, every value is
    /// exact, or the error is unknown.
    pub fn sqnr_db(&self) -> Option<f64> {
        self.error.as_ref()?.sqnr_db()
    }

    /// The largest absolute error; `None` if the tensor is float, or the error is unknown.
    pub fn max_abs_error(&self) -> Option<f32> {
        Some(self.error.as_ref()?.largest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::{BARS, LISTED};
    use super::*;
    use quant::MinMaxCalibration;
    use quant::quantize::quantize_values;

    #[test]
    fn a_report_keeps_less_than_four_kibibytes() {
        let mut values: Vec<f32> = (0..512 * 64).map(|i| (i as f32).sin() / 9.0).collect();
        (0..99).for_each(|i| values[i * 300] = i as f32);
        let scheme = "per-channel-symmetric-int8".parse().unwrap();
        let quantized =
            quantize_values(&[512, 64], &values, scheme, &MinMaxCalibration {}).unwrap();
        let report = TensorReport::new("w", &[512, 64], &values, Some(&quantized)).unwrap();
        let channels = report.error.as_ref().unwrap().channels.as_ref().unwrap();
        let heap = size_of_val(&report.histogram.bins[..])
            + size_of_val(&channels.worst[..])
            + size_of_val(&report.values.furthest[..]);
        assert_eq!((channels.worst.len(), report.values.furthest.len()), (BARS, LISTED));
        assert!(size_of::<TensorReport>() + heap < 4096 - 1024, "room for a name and a note");
    }
}
