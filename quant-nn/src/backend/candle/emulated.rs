//! Integer products in training on devices that have no integer kernels, emulated by float
//! products.
//!
//! Codes minus their zero points are small whole numbers. A float product sums them exactly, in any
//! order, while every sum stays below 2^24. A layer whose sums could be larger is cut along K into
//! exact segments, whose sums are added as integers. Scaling and bias follow rule 6, so the result
//! has the bits of the kernels.

use core::cell::Cell;

use candle_core::{DType, Result as CandleResult, Tensor};

use super::backend_error;
use super::op::straight_through;
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::fake_quant::{FakeGroups, gradient_scale};
use crate::train_state::learned_scale;
use quant::activation::ActivationMode;
use quant::scheme::{Granularity, Group, NonFinite, Quantization};
use quant::tensor::QuantizedTensor;
use quant_kernels::Kernel;

/// Every whole number up to this one is exact in f32.
const EXACT: u64 = 1 << 24;

thread_local! {
    static FORCED: Cell<bool> = const { Cell::new(false) };
}

/// Runs the products of `f` as they run on a device without integer kernels: the emulation gives
/// the same bits, and this shows it on a machine that has no such device.
pub fn emulate_device<R>(f: impl FnOnce() -> R) -> R {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _reset = Reset(FORCED.replace(true));
    f()
}

/// Whether products of `x` are emulated.
pub(super) fn is_used(x: &Tensor) -> bool {
    !x.device().is_cpu() || FORCED.get()
}

/// `y`, the result of `fake` on `weight`, with gradients.
pub(super) fn fake_weight(
    weight: &Tensor,
    scale: Option<&Tensor>,
    fake: &FakeGroups,
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let (shape, device) = (weight.shape(), weight.device());
    let x = super::tensor::values(weight)?;
    let mask = Tensor::from_vec(fake.backward(&x, &vec![1.0; x.len()]), shape, device)?;
    let mut surrogate = weight.mul(&mask)?;
    if let Some(scale) = scale {
        let mut slopes = vec![0.0; x.len()];
        let mut groups = vec![0u32; x.len()];
        for Group { index, elements } in fake.groups().runs() {
            let quantizer = fake.quantizers()[index];
            let g = gradient_scale(x.len() / fake.quantizers().len(), quantizer.qmax());
            for at in elements {
                slopes[at] = g * quantizer.slope(x[at]);
                groups[at] = index as u32;
            }
        }
        let count = x.len();
        let of_group = scale.index_select(&Tensor::from_vec(groups, count, device)?, 0)?;
        let slopes = Tensor::from_vec(slopes, count, device)?;
        surrogate = surrogate.add(&of_group.mul(&slopes)?.reshape(shape)?)?;
    }
    straight_through(&Tensor::from_vec(y, shape, device)?, &surrogate)
}

/// The first NaN of an input. The kernels refuse NaN, too; infinities saturate.
fn first_nan(x: &Tensor) -> CandleResult<Option<NonFinite>> {
    // Only NaN differs from itself. Its position is searched for on the CPU, and only if there is
    // one.
    if x.ne(x)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? == 0.0 {
        return Ok(None);
    }
    let values = super::tensor::values(x)?;
    let index = Kernel::current().first_nan(&values);
    Ok(index.map(|index| NonFinite { index, value: values[index] }))
}

/// The input as whole numbers, and as the values they stand for, with gradients.
pub(super) struct Input {
    pub(super) fixed: Quantization,
    /// `q - z`
    pub(super) offset_codes: Tensor,
    pub(super) graph: Tensor,
}

impl Input {
    pub(super) fn new(x: &Tensor, layer: LayerInput<'_>) -> Result<Self, ForwardError> {
        let ActivationMode::Static(fixed) = layer.quantizer.mode() else {
            let reason = format!(
                "{}: on a device other than the CPU, only static activations can be trained",
                layer.layer()
            );
            return Err(ForwardError::Backend(reason));
        };
        if let Some(source) = first_nan(x).map_err(backend_error)? {
            return Err(ForwardError::Activation(layer.quantizer.non_finite(source)));
        }
        Self::fixed(x, fixed, learned_scale(layer.quantizer)).map_err(backend_error)
    }

    fn fixed(x: &Tensor, fixed: Quantization, scale: Option<&Tensor>) -> CandleResult<Self> {
        /// Adding it leaves no bits for a fraction, so that the sum is rounded, ties to even.
        const MAGIC: f64 = 12_582_912.0; // 1.5 · 2^23
        let Quantization { params, codes } = fixed;
        let (qmin, qmax) = (codes.min(), codes.max());
        let (z, value) = (f64::from(params.zero_point()), x.detach());
        let s = Tensor::new(params.scale(), x.device())?;
        let quotient = value.broadcast_div(&s)?;
        let code = ((quotient.clamp(-512.0, 512.0)? + MAGIC)? - MAGIC)?;
        let offset_codes = code.clamp(f64::from(qmin) - z, f64::from(qmax) - z)?;
        let inside = code.eq(&offset_codes)?.to_dtype(DType::F32)?;
        let mut surrogate = x.mul(&inside)?;
        if let Some(scale) = scale {
            let slopes = (&offset_codes - quotient.mul(&inside)?)?;
            let g = gradient_scale(x.elem_count(), qmax.into());
            let scale = (scale.to_device(x.device())? * f64::from(g))?;
            surrogate = surrogate.add(&slopes.broadcast_mul(&scale)?)?;
        }
        let graph = straight_through(&offset_codes.broadcast_mul(&s)?, &surrogate)?;
        Ok(Self { fixed, offset_codes, graph })
    }

    /// The largest magnitude of `q - z`.
    fn largest(&self) -> u64 {
        let Quantization { params, codes } = self.fixed;
        let (qmin, qmax) = (codes.min(), codes.max());
        let z = i32::from(params.zero_point());
        (i32::from(qmax) - z).max(z - i32::from(qmin)).unsigned_abs().into()
    }
}

/// The codes of a weight minus their zero points, and the largest magnitude among them.
pub(super) fn offset_codes(codes: &QuantizedTensor, of: &Tensor) -> CandleResult<(Tensor, u64)> {
    let mut offset_codes: Vec<f32> = codes.codes().into_iter().map(f32::from).collect();
    let mut largest = 0.0f32;
    for Group { index, elements } in codes.groups().runs() {
        for code in &mut offset_codes[elements] {
            *code -= f32::from(codes.params(index).zero_point());
            largest = largest.max(code.abs());
        }
    }
    Ok((Tensor::from_vec(offset_codes, codes.shape(), of.device())?, largest as u64))
}

/// How many products of an input and a weight can be summed exactly; at least one.
pub(super) fn exact_terms(input: &Input, largest: u64) -> usize {
    ((EXACT - 1) / (input.largest() * largest).max(1)).max(1) as usize
}

/// The exact sum of segments that `segment` computes, each of at most `length` of `count`.
pub(super) fn sum_of_segments(
    count: usize,
    length: usize,
    segment: impl Fn(usize, usize) -> CandleResult<Tensor>,
) -> CandleResult<Tensor> {
    if count <= length {
        return segment(0, count);
    }
    let mut sum: Option<Tensor> = None;
    for start in (0..count).step_by(length) {
        let part = segment(start, length.min(count - start))?.to_dtype(DType::I64)?;
        sum = Some(sum.map_or(Ok(part.clone()), |sum| sum + &part)?);
    }
    match sum {
        Some(sum) => sum.to_dtype(DType::F32),
        None => segment(0, 0),
    }
}

/// The scales `sa · sw` of the outputs (of one block along K).
fn scales(
    codes: &QuantizedTensor,
    input: &Input,
    outputs: usize,
    blocks: usize,
    block: usize,
) -> CandleResult<Tensor> {
    let group = |n: usize| if codes.scales().len() == 1 { 0 } else { n * blocks + block };
    let scale = |n: usize| input.fixed.params.scale() * codes.scales()[group(n)];
    Tensor::from_vec(
        (0..outputs).map(scale).collect::<Vec<f32>>(),
        outputs,
        input.offset_codes.device(),
    )
}

/// `x · wᵀ + b`
pub(super) fn linear(
    x: &Tensor,
    codes: &QuantizedTensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    layer: LayerInput<'_>,
) -> Result<Tensor, ForwardError> {
    let x = Input::new(x, layer)?;
    let run = || {
        let (outputs, inputs) = weight.dims2()?;
        let rows = x.offset_codes.elem_count() / inputs.max(1);
        let block = match codes.scheme().granularity() {
            Granularity::PerBlock(block) => block.len(),
            _ => inputs,
        };
        let blocks = inputs.div_ceil(block.max(1));
        let a = x.offset_codes.reshape((rows, inputs))?;
        let (w, largest) = offset_codes(codes, weight)?;
        let terms = exact_terms(&x, largest);
        let mut y: Option<Tensor> = None;
        for number in 0..blocks {
            let start = number * block;
            let acc = sum_of_segments(block.min(inputs - start), terms, |at, len| {
                let of = |t: &Tensor| t.narrow(1, start + at, len)?.contiguous();
                of(&a)?.matmul(&of(&w)?.t()?)
            })?;
            let scaled = acc.broadcast_mul(&scales(codes, &x, outputs, blocks, number)?)?;
            y = Some(y.map_or(Ok(scaled.clone()), |y| y + &scaled)?);
        }
        let zeros = || Tensor::zeros((rows, outputs), DType::F32, x.offset_codes.device());
        let y = y.map_or_else(zeros, Ok)?;
        let float = x.graph.reshape((rows, inputs))?.matmul(&weight.t()?)?;
        let (y, float) = match bias {
            Some(bias) => (y.broadcast_add(&bias.detach())?, float.broadcast_add(bias)?),
            None => (y, float),
        };
        let mut shape = x.offset_codes.dims().to_vec();
        shape.pop();
        shape.push(outputs);
        straight_through(&y, &float)?.reshape(shape)
    };
    run().map_err(backend_error)
}
