//! What training attaches to a weight.

use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Tensor, Var};

use super::phase::Phase;
use super::scale::ScaleSource;
use super::variable::{as_variable, variable};
use quant::FloatTensor;
use quant::Param;
use quant::QuantizationScheme;
use quant::module::{Attachment, ParamMut, Walk, Walker, WalkerMut};
use quant::quantize::{Choice, WeightError, WeightRange, check_calibration, check_values, params};
use quant::scheme::{Grid, Groups, Mapping, QuantParams};
use quant::tensor::{QuantizedTensor, TensorError};
use quant_kernels::Kernel;

/// The attachment of a float parameter in training: its scheme, and its scales and zero points.
///
/// `scale` and `zero_point` are leaves of the model, below the parameter, so that optimizers and
/// records find them. Scales that are all 0 and were never set are not set yet. Their first use sets
/// them, because only the layer knows the weight into which a norm is folded. Scales that were set and
/// became 0 are an error: to set them again would hide what went wrong.
#[derive(Clone)]
pub(crate) struct FakeWeight {
    scheme: QuantizationScheme,
    calibration: Arc<dyn WeightRange>,
    scale_source: ScaleSource,
    phase: Phase,
    /// `[groups]`
    scale: Param<Tensor>,
    /// `[groups]`, whole numbers; `None` if the scheme is symmetric.
    zero_point: Option<Param<Tensor>>,
    /// Whether the scales were seen set. Clones share it, as they share the variables.
    was_set: Arc<AtomicBool>,
}

/// Attaches a [`FakeWeight`] for `choice` to `param`.
pub(crate) fn begin(
    param: &mut dyn ParamMut,
    choice: &Choice,
    scale_source: ScaleSource,
) -> Result<(), TensorError> {
    let refuse = |reason: &str| Err(TensorError::Storage(reason.into()));
    let view = param.view();
    if view.is_quantized() {
        return refuse("the parameter is quantized already");
    }
    let fake = match variable(view) {
        None => return refuse("the storage is not a variable of candle"),
        Some(var) if var.dtype() != candle_core::DType::F32 => {
            return refuse("the storage is not of the type f32");
        }
        Some(var) => FakeWeight::new(choice, scale_source, &var)?,
    };
    param.attach(Some(Box::new(fake)))
}

impl FakeWeight {
    /// The attachment of `weight`, in [`Phase::Observe`].
    fn new(choice: &Choice, scale_source: ScaleSource, weight: &Var) -> Result<Self, TensorError> {
        let (scheme, calibration) = choice.parts().ok_or_else(|| {
            TensorError::Storage("only the name of its calibration is known".into())
        })?;
        let groups = Groups::new(weight.dims(), scheme.granularity())?;
        check_calibration(groups, scheme.grid(), &*calibration)
            .map_err(|error| TensorError::Storage(error.to_string()))?;
        let groups = groups.count();
        let zeros =
            || match Var::from_vec(vec![0.0f32; groups], groups, weight.as_tensor().device()) {
                Ok(zeros) => Ok(Param::new(zeros.into_inner())),
                Err(error) => Err(TensorError::Storage(error.to_string())),
            };
        let zero_point = match scheme.mapping() {
            Mapping::Symmetric => None,
            Mapping::Affine => Some(zeros()?),
            mapping @ (Mapping::FullRange | Mapping::Minimum) => {
                let reason = format!("a weight of mapping {mapping} cannot be trained");
                return Err(TensorError::Storage(reason));
            }
        };
        let phase = Phase::Observe;
        let (scale, was_set) = (zeros()?, Arc::default());
        Ok(Self { scheme, calibration, scale_source, phase, scale, zero_point, was_set })
    }

    /// The attachment of `param`, if its phase quantizes.
    pub(crate) fn active<T: FloatTensor>(param: &Param<T>) -> Option<&Self> {
        param.attachment::<Self>().filter(|fake| fake.is_active())
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether the weight is fake-quantized in this phase.
    fn is_active(&self) -> bool {
        self.phase != Phase::Observe
    }

    /// The scales, if they are trained in this phase.
    pub(crate) fn learned_scale(&self) -> Option<&Tensor> {
        let learns = self.scale_source == ScaleSource::Learned && self.phase == Phase::FakeQuant;
        self.scale.as_float().filter(|_| learns)
    }

    /// Quantizes a weight of this shape and these values.
    pub(crate) fn quantized(
        &self,
        shape: &[usize],
        values: &[f32],
    ) -> Result<QuantizedTensor, WeightError> {
        let groups = Groups::new(shape, self.scheme.granularity())?;
        Kernel::current().min_max(values).map_err(WeightError::NonFinite)?;
        let params = self.params(groups, values)?;
        Ok(QuantizedTensor::quantize(shape, self.scheme, groups, values, &params))
    }

    fn params(&self, groups: Groups, values: &[f32]) -> Result<Vec<QuantParams>, WeightError> {
        let grid = self.scheme.grid();
        let found = || params(groups, grid, values, &*self.calibration);
        if self.scale_source == ScaleSource::Range && self.phase == Phase::FakeQuant {
            return found();
        }
        if let Some(set) = self.set_params()? {
            // Those that are found have been checked.
            check_values(groups, grid, values, &set)?;
            return Ok(set);
        }
        let found = found()?;
        self.store(&found).map_err(WeightError::Tensor)?;
        Ok(found)
    }

    /// The scales and zero points that are kept; `None` if they are not set yet.
    ///
    /// # Errors
    /// A scale that quantizes nothing, a scale of 0 that was set before included, or a zero point that is
    /// not a code.
    pub(crate) fn set_params(&self) -> Result<Option<Vec<QuantParams>>, WeightError> {
        let (grid, scales) = (self.scheme.grid(), stored(&self.scale));
        if scales.iter().all(|&scale| scale == 0.0) && !self.was_set.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.was_set.store(true, Ordering::Relaxed);
        let zero_points = self.zero_point.as_ref().map(stored);
        let param = |(group, &scale): (usize, &f32)| {
            let scale = grid.store(scale).map_err(|source| WeightError::Scale { group, source })?;
            let zero_point = zero_points.as_ref().map_or(0.0, |all| all[group]);
            let zero_point = code(grid, zero_point).ok_or_else(|| {
                let reason = format!("group {group}: the zero point {zero_point} is not a code");
                WeightError::Tensor(TensorError::Storage(reason))
            })?;
            QuantParams::new(scale, zero_point)
                .map_err(|source| WeightError::Scale { group, source })
        };
        scales.iter().enumerate().map(param).collect::<Result<_, _>>().map(Some)
    }

    /// Takes the scales that a record has given, whatever was set before.
    pub(crate) fn loaded(&mut self) {
        self.was_set = Arc::default();
    }

    fn store(&self, params: &[QuantParams]) -> Result<(), TensorError> {
        set(&self.scale, params.iter().map(|params| params.scale()).collect())?;
        self.was_set.store(true, Ordering::Relaxed);
        let Some(zero_point) = &self.zero_point else { return Ok(()) };
        set(zero_point, params.iter().map(|params| params.zero_point().into()).collect())
    }
}

impl Attachment for FakeWeight {
    fn boxed_clone(&self) -> Box<dyn Attachment> {
        Box::new(self.clone())
    }
}

impl Walk for FakeWeight {
    fn walk(&self, walker: &mut Walker<'_>) {
        self.scale.walk(&mut walker.scale());
        if let Some(zero_point) = &self.zero_point {
            zero_point.walk(&mut walker.attached("zero_point"));
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        self.scale.walk_mut(&mut walker.scale());
        if let Some(zero_point) = &mut self.zero_point {
            zero_point.walk_mut(&mut walker.attached("zero_point"));
        }
    }
}

/// The code that `value` is, if it is one.
fn code(grid: Grid, value: f32) -> Option<i8> {
    let (qmin, qmax) = grid.code_range();
    (qmin..=qmax).find(|&code| code as f32 == value).map(|code| code as i8)
}

fn stored(param: &Param<Tensor>) -> Vec<f32> {
    param.as_float().map(|value| FloatTensor::values(value).into_owned()).unwrap_or_default()
}

/// Sets the variable that `param` holds.
pub(crate) fn set(param: &Param<Tensor>, values: Vec<f32>) -> Result<(), TensorError> {
    let var = param.as_float().and_then(as_variable);
    let var = var.ok_or_else(|| TensorError::Storage("the tensor is not a variable".into()))?;
    Tensor::from_vec(values, var.dims(), var.as_tensor().device())
        .and_then(|tensor| var.set(&tensor))
        .map_err(|error| TensorError::Storage(error.to_string()))
}
