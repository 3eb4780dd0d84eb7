//! How a weight is quantized while it is trained.

use alloc::sync::Arc;

use candle_core::Tensor;

use super::{Phase, StepSize};
use crate::candle::variable;
use crate::kernel::Kernel;
use crate::module::{Module, Param, Walker, WalkerMut};
use crate::quantize::{Choice, WeightError, WeightRange, params};
use crate::scheme::{Groups, Mapping, QuantParams, QuantizationScheme};
use crate::tensor::{FloatTensor, QuantizedTensor, TensorError};

/// Beside a float parameter: its scheme, and the scales it has or learns.
///
/// `scale` and `zero_point` are leaves of the model, below the parameter, so that optimizers and
/// records find them. Scales that are all 0 have not been set yet: that happens at their first
/// use, because a weight into which a norm is folded is known only to its layer.
pub(crate) struct FakeWeight<T: FloatTensor> {
    scheme: QuantizationScheme,
    calibration: Arc<dyn WeightRange>,
    steps: StepSize,
    phase: Phase,
    /// `[groups]`
    scale: Param<T>,
    /// `[groups]`, whole numbers; only of affine schemes.
    zero_point: Option<Param<T>>,
}

impl<T: FloatTensor> FakeWeight<T> {
    /// For a weight of this shape, in the phase that observes.
    pub(crate) fn new(
        choice: &Choice,
        steps: StepSize,
        shape: &[usize],
        device: &T::Device,
    ) -> Result<Self, TensorError> {
        let (scheme, calibration) = choice.parts().ok_or_else(|| {
            TensorError::Storage("the calibration is not of this crate, and has only a name".into())
        })?;
        let groups = Groups::new(shape, scheme.granularity())?.count();
        let zeros = || T::from_values(&[groups], vec![0.0; groups], device).map(Param::new);
        let zero_point = match scheme.mapping() {
            Mapping::Symmetric => None,
            Mapping::Affine => Some(zeros()?),
        };
        let phase = Phase::Observe;
        Ok(Self { scheme, calibration, steps, phase, scale: zeros()?, zero_point })
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether the weight is quantized in this phase.
    pub(crate) fn is_active(&self) -> bool {
        self.phase != Phase::Observe
    }

    /// The scales, if they are learned now.
    pub(crate) fn learned_scale(&self) -> Option<&T> {
        let learns = self.steps == StepSize::Learned && self.phase == Phase::Fake;
        self.scale.as_float().filter(|_| learns)
    }

    /// The weight with these values, quantized.
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
        if self.steps == StepSize::FromRange && self.phase == Phase::Fake {
            return found();
        }
        let scales = stored(&self.scale);
        if scales.iter().all(|&scale| scale == 0.0) {
            let found = found()?;
            self.store(&found).map_err(WeightError::Tensor)?;
            return Ok(found);
        }
        let zero_points = self.zero_point.as_ref().map(stored);
        let param = |(group, &scale): (usize, &f32)| {
            let scale = grid.store(scale).map_err(|source| WeightError::Scale { group, source })?;
            let zero_point = zero_points.as_ref().map_or(0, |all| all[group] as i8);
            Ok(QuantParams { scale, zero_point })
        };
        scales.iter().enumerate().map(param).collect()
    }

    fn store(&self, params: &[QuantParams]) -> Result<(), TensorError> {
        set(&self.scale, params.iter().map(|params| params.scale).collect())?;
        let Some(zero_point) = &self.zero_point else { return Ok(()) };
        set(zero_point, params.iter().map(|params| params.zero_point.into()).collect())
    }

    pub(crate) fn walk(&self, walker: &mut Walker<'_>) {
        self.scale.walk(&mut walker.step_size());
        if let Some(zero_point) = &self.zero_point {
            zero_point.walk(&mut walker.kept("zero_point"));
        }
    }

    pub(crate) fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        self.scale.walk_mut(&mut walker.step_size());
        if let Some(zero_point) = &mut self.zero_point {
            zero_point.walk_mut(&mut walker.kept("zero_point"));
        }
    }
}

fn stored<T: FloatTensor>(param: &Param<T>) -> Vec<f32> {
    param.as_float().map(|value| value.values().into_owned()).unwrap_or_default()
}

/// Sets the variable that `param` holds.
pub(crate) fn set<T: FloatTensor>(param: &Param<T>, values: Vec<f32>) -> Result<(), TensorError> {
    let var = param.as_float().and_then(FloatTensor::as_any).and_then(variable);
    let var = var.ok_or_else(|| TensorError::Storage("the tensor is not a variable".into()))?;
    Tensor::from_vec(values, var.dims(), var.as_tensor().device())
        .and_then(|tensor| var.set(&tensor))
        .map_err(|error| TensorError::Storage(error.to_string()))
}

impl<T: FloatTensor + Clone> Clone for FakeWeight<T> {
    fn clone(&self) -> Self {
        Self {
            scheme: self.scheme,
            calibration: Arc::clone(&self.calibration),
            steps: self.steps,
            phase: self.phase,
            scale: self.scale.clone(),
            zero_point: self.zero_point.clone(),
        }
    }
}
