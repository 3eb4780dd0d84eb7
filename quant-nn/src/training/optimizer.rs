//! Optimizers whose state is a module: saved and loaded like a model.
//!
//! Each step looks up the variables of the model by path. So a model may be loaded, mapped or put
//! into training between steps, and the step changes the variables in use.

use core::fmt;
use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Error, Tensor, Var};

use crate::train_state::variable;
use quant::FloatTensor;
use quant::module::{Walk, for_each};
use quant::scheme::NonFinite;
use quant::{Param, ParamId};
use quant_kernels::Kernel;

/// A variable of a model.
struct Trainable {
    id: ParamId,
    var: Var,
    /// Whether it is a learned scale.
    is_scale: bool,
}

fn trainables(model: &(impl Walk + ?Sized)) -> Vec<Trainable> {
    let mut all = Vec::new();
    for_each(model, |site, param| {
        if let Some(var) = variable(param) {
            let (id, is_scale) = (site.path.into(), site.is_scale);
            all.push(Trainable { id, var, is_scale });
        }
    });
    all
}

impl Trainable {
    /// The gradient, if there is one.
    fn gradient(&self, gradients: &GradStore) -> Result<Option<Tensor>, OptimizerError> {
        let Some(gradient) = gradients.get(self.var.as_tensor()) else { return Ok(None) };
        let values = FloatTensor::values(gradient);
        Kernel::current()
            .min_max(&values)
            .map_err(|source| OptimizerError::NonFinite { id: self.id.clone(), source })?;
        Ok(Some(gradient.detach()))
    }

    /// Moves the variable by `-rate · direction`. A learned scale is multiplied by `1 - rate ·
    /// direction`, clamped to `0.5 ..= 2`: scales differ by orders of magnitude, and must stay
    /// positive.
    fn step(&self, direction: &Tensor, rate: f64) -> Result<(), OptimizerError> {
        let now = self.var.as_detached_tensor();
        let moved = || {
            if self.is_scale {
                now.mul(&direction.affine(-rate, 1.0)?.clamp(0.5, 2.0)?)
            } else {
                now.sub(&(direction * rate)?)
            }
        };
        moved().and_then(|moved| self.var.set(&moved)).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &Error) -> OptimizerError {
        OptimizerError::Backend { id: self.id.clone(), reason: error.to_string() }
    }
}

/// Moves every variable of a model that has a gradient, by `rate` times the direction that
/// `direction` computes from the gradient.
fn descend(
    model: &(impl Walk + ?Sized),
    gradients: &GradStore,
    rate: f64,
    mut direction: impl FnMut(&Trainable, Tensor) -> Result<Tensor, OptimizerError>,
) -> Result<(), OptimizerError> {
    for it in trainables(model) {
        if let Some(gradient) = it.gradient(gradients)? {
            it.step(&direction(&it, gradient)?, rate)?;
        }
    }
    Ok(())
}

/// A tensor of zeros for each variable of a model.
type PerParam = BTreeMap<String, Param<Tensor>>;

fn zeros(model: &(impl Walk + ?Sized)) -> Result<PerParam, OptimizerError> {
    let zeros = trainables(model).into_iter().map(|it| {
        let zeros = it.var.as_tensor().zeros_like().map_err(|e| it.failed(&e))?;
        Ok((it.id.to_string(), Param::new(zeros.detach())))
    });
    let zeros: PerParam = zeros.collect::<Result<_, _>>()?;
    if zeros.is_empty() { Err(OptimizerError::NoVariables) } else { Ok(zeros) }
}

/// The state of a variable.
fn state_of<'a>(all: &'a mut PerParam, it: &Trainable) -> Result<&'a mut Tensor, OptimizerError> {
    all.get_mut(it.id.as_str())
        .and_then(Param::as_float_mut)
        .filter(|tensor| tensor.shape() == it.var.as_tensor().shape())
        .ok_or_else(|| OptimizerError::UnknownParam { id: it.id.clone() })
}

/// Adam (Kingma and Ba, 2015), with `β1` .9, `β2` .999 and `ε` 1e-8.
///
/// ```text
/// m = β1 m + (1 - β1) g      v = β2 v + (1 - β2) g²
/// w = w - rate · (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + ε)
/// ```
/// A learned scale is multiplied by `1 - rate · …` instead, clamped to `0.5 ..= 2`.
#[derive(Clone, Debug, quant::Module)]
pub struct Adam {
    first: PerParam,
    second: PerParam,
    /// `β1^t` and `β2^t`.
    powers: Param<[f32; 2]>,
}

const BETA: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

impl Adam {
    /// The optimizer of the variables of `model`, learned scales included.
    ///
    /// # Errors
    /// A model without variables.
    pub fn new(model: &(impl Walk + ?Sized)) -> Result<Self, OptimizerError> {
        let (first, second) = (zeros(model)?, zeros(model)?);
        Ok(Self { first, second, powers: Param::new([1.0; 2]) })
    }

    /// Moves every variable that has a gradient.
    ///
    /// # Errors
    /// A variable that the optimizer was not made for, a gradient that is not finite, or a failing
    /// device. Variables before it have moved.
    pub fn step(
        &mut self,
        model: &(impl Walk + ?Sized),
        gradients: &GradStore,
        rate: f64,
    ) -> Result<(), OptimizerError> {
        let powers = self.powers.as_float_mut().ok_or(OptimizerError::Quantized)?;
        for (power, beta) in powers.iter_mut().zip(BETA) {
            *power *= beta as f32;
        }
        let [one, two] = powers.map(|power| 1.0 / (1.0 - f64::from(power)));
        descend(model, gradients, rate, |it, g| {
            let m = state_of(&mut self.first, it)?;
            let v = state_of(&mut self.second, it)?;
            let moved = || -> candle_core::Result<_> {
                let m = ((&*m * BETA[0])? + (&g * (1.0 - BETA[0]))?)?;
                let v = ((&*v * BETA[1])? + (g.sqr()? * (1.0 - BETA[1]))?)?;
                let direction = ((&m * one)? / ((&v * two)?.sqrt()? + EPSILON)?)?;
                Ok((m, v, direction))
            };
            let (new_m, new_v, direction) = moved().map_err(|e| it.failed(&e))?;
            (*m, *v) = (new_m, new_v);
            Ok(direction)
        })
    }
}

/// Gradient descent with momentum: `v = momentum · v + g`, `w = w - rate · v`.
#[derive(Clone, Debug, quant::Module)]
pub struct Sgd {
    velocity: PerParam,
    #[module(skip)]
    momentum: f64,
}

impl Sgd {
    /// The optimizer of the variables of `model`. A `momentum` of 0 is plain gradient descent.
    ///
    /// # Errors
    /// A model without variables.
    pub fn new(model: &(impl Walk + ?Sized), momentum: f64) -> Result<Self, OptimizerError> {
        Ok(Self { velocity: zeros(model)?, momentum })
    }

    /// As [`Adam::step`]. A learned scale also moves by `rate · v`, but at most to half or double
    /// its value.
    ///
    /// # Errors
    /// As [`Adam::step`].
    pub fn step(
        &mut self,
        model: &(impl Walk + ?Sized),
        gradients: &GradStore,
        rate: f64,
    ) -> Result<(), OptimizerError> {
        descend(model, gradients, rate, |it, g| {
            let velocity = state_of(&mut self.velocity, it)?;
            let moved = (&*velocity * self.momentum).and_then(|v| v + &g);
            *velocity = moved.map_err(|e| it.failed(&e))?;
            if it.is_scale {
                // `step` multiplies by the scale.
                velocity.div(&it.var.as_detached_tensor()).map_err(|e| it.failed(&e))
            } else {
                Ok(velocity.clone())
            }
        })
    }
}

/// A step cannot be made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptimizerError {
    /// The model has no parameter that is a variable of candle.
    NoVariables,
    /// The model that the optimizer was made for has no such variable, or one of another shape.
    UnknownParam {
        /// The variable.
        id: ParamId,
    },
    /// A gradient is NaN or infinite.
    NonFinite {
        /// The variable.
        id: ParamId,
        /// The value, and its position in the gradient.
        source: NonFinite,
    },
    /// The optimizer's own state was quantized.
    Quantized,
    /// An operation of candle failed.
    Backend {
        /// The variable.
        id: ParamId,
        /// The message of candle.
        reason: String,
    },
}

impl fmt::Display for OptimizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVariables => f.write_str("the model has no parameter that is a variable"),
            Self::UnknownParam { id } => {
                write!(f, "{id}: the optimizer was made for a model without this variable")
            }
            Self::NonFinite { id, .. } => write!(f, "{id}: the gradient is not finite"),
            Self::Quantized => f.write_str("the optimizer's state is quantized"),
            Self::Backend { id, reason } => write!(f, "{id}: {reason}"),
        }
    }
}

impl core::error::Error for OptimizerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NonFinite { source, .. } => Some(source),
            _ => None,
        }
    }
}
