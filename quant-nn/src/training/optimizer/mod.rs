//! Optimizers whose state is a module: saved and loaded like a model.
//!
//! Each step looks up the variables of the model by path. So a model may be loaded, mapped or put
//! into training between steps, and the step changes the variables in use.
//!
//! A step computes everything before it changes anything, so that an error leaves the last good state.

mod error;

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Error, Tensor, Var};

use crate::train_state::variable;
use quant::FloatTensor;
use quant::module::{Walk, for_each};
use quant::scheme::{NonFinite, QuantParams};
use quant::{Param, ParamId};
use quant_kernels::Kernel;

pub use error::OptimizerError;

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
        check_finite(gradient)
            .map_err(|source| OptimizerError::NonFinite { id: self.id.clone(), source })?;
        Ok(Some(gradient.detach()))
    }

    /// The variable moved by `-rate · direction`. A learned scale is multiplied by `1 - rate ·
    /// direction`, clamped to `0.5 ..= 2`: scales differ by orders of magnitude, and must stay
    /// positive.
    fn moved(&self, direction: &Tensor, rate: f64) -> Result<Tensor, OptimizerError> {
        let now = self.var.as_detached_tensor();
        let moved = || {
            if self.is_scale {
                now.mul(&direction.affine(-rate, 1.0)?.clamp(0.5, 2.0)?)
            } else {
                now.sub(&(direction * rate)?)
            }
        };
        moved().map_err(|e| self.failed(&e))
    }

    /// Checks that the variable can take this value.
    fn check(&self, value: &Tensor) -> Result<(), OptimizerError> {
        if self.is_scale {
            for &scale in FloatTensor::values(value).iter() {
                QuantParams::new(scale, 0)
                    .map_err(|source| OptimizerError::Scale { id: self.id.clone(), source })?;
            }
            return Ok(());
        }
        self.check_finite(value)
    }

    fn check_finite(&self, value: &Tensor) -> Result<(), OptimizerError> {
        check_finite(value)
            .map_err(|source| OptimizerError::Diverged { id: self.id.clone(), source })
    }

    fn failed(&self, error: &Error) -> OptimizerError {
        OptimizerError::Backend { id: self.id.clone(), reason: error.to_string() }
    }
}

fn check_finite(tensor: &Tensor) -> Result<(), NonFinite> {
    Kernel::current().min_max(&FloatTensor::values(tensor)).map(drop)
}

/// What a step makes of a variable.
struct Update<const N: usize> {
    it: Trainable,
    value: Tensor,
    /// What the optimizer keeps of the variable.
    states: [Tensor; N],
}

/// What a step by `rate` makes of every variable of a model that has a gradient. `direction` computes
/// the direction, and the new state of the optimizer, from the gradient.
fn updates<const N: usize>(
    model: &(impl Walk + ?Sized),
    gradients: &GradStore,
    rate: f64,
    mut direction: impl FnMut(&Trainable, Tensor) -> Result<(Tensor, [Tensor; N]), OptimizerError>,
) -> Result<Vec<Update<N>>, OptimizerError> {
    if !rate.is_finite() {
        return Err(OptimizerError::Rate { rate });
    }
    let mut updates = Vec::new();
    for it in trainables(model) {
        let Some(gradient) = it.gradient(gradients)? else { continue };
        let (direction, states) = direction(&it, gradient)?;
        let value = it.moved(&direction, rate)?;
        it.check(&value)?;
        states.iter().try_for_each(|state| it.check_finite(state))?;
        updates.push(Update { it, value, states });
    }
    Ok(updates)
}

impl<const N: usize> Update<N> {
    /// Writes the variable, and its state into `kept`.
    fn write(self, kept: [&mut PerParam; N]) -> Result<(), OptimizerError> {
        let Self { it, value, states } = self;
        it.var.set(&value).map_err(|e| it.failed(&e))?;
        for (kept, state) in kept.into_iter().zip(states) {
            *state_mut(kept, &it)? = state;
        }
        Ok(())
    }
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
fn state<'a>(all: &'a PerParam, it: &Trainable) -> Result<&'a Tensor, OptimizerError> {
    all.get(it.id.as_str())
        .and_then(Param::as_float)
        .filter(|tensor| tensor.shape() == it.var.as_tensor().shape())
        .ok_or_else(|| OptimizerError::UnknownParam { id: it.id.clone() })
}

fn state_mut<'a>(all: &'a mut PerParam, it: &Trainable) -> Result<&'a mut Tensor, OptimizerError> {
    all.get_mut(it.id.as_str())
        .and_then(Param::as_float_mut)
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

    /// Moves every variable that has a gradient. It takes memory for the new values of all of them.
    ///
    /// # Errors
    /// A rate that is not finite; a variable that the optimizer was not made for; a gradient that is not
    /// finite; a step that would make a variable infinite, or a learned scale 0. Then nothing has
    /// changed: the variables and the optimizer are those of the step before. A failing device is an
    /// error, too, and may fail when some variables are written.
    pub fn step(
        &mut self,
        model: &(impl Walk + ?Sized),
        gradients: &GradStore,
        rate: f64,
    ) -> Result<(), OptimizerError> {
        let mut powers = *self.powers.as_float().ok_or(OptimizerError::Quantized)?;
        for (power, beta) in powers.iter_mut().zip(BETA) {
            *power *= beta as f32;
        }
        let [one, two] = powers.map(|power| 1.0 / (1.0 - f64::from(power)));
        let updates = updates(model, gradients, rate, |it, g| {
            let (m, v) = (state(&self.first, it)?, state(&self.second, it)?);
            let moved = || -> candle_core::Result<_> {
                let m = ((m * BETA[0])? + (&g * (1.0 - BETA[0]))?)?;
                let v = ((v * BETA[1])? + (g.sqr()? * (1.0 - BETA[1]))?)?;
                let direction = ((&m * one)? / ((&v * two)?.sqrt()? + EPSILON)?)?;
                Ok((direction, [m, v]))
            };
            moved().map_err(|e| it.failed(&e))
        })?;
        for update in updates {
            update.write([&mut self.first, &mut self.second])?;
        }
        self.powers = Param::new(powers);
        Ok(())
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
        let updates = updates(model, gradients, rate, |it, g| {
            let velocity = state(&self.velocity, it)?;
            let moved = || -> candle_core::Result<_> {
                let velocity = ((velocity * self.momentum)? + &g)?;
                // A scale is multiplied: `moved` multiplies by it what is divided here.
                let direction = if it.is_scale {
                    velocity.div(&it.var.as_detached_tensor())?
                } else {
                    velocity.clone()
                };
                Ok((direction, [velocity]))
            };
            moved().map_err(|e| it.failed(&e))
        })?;
        updates.into_iter().try_for_each(|update| update.write([&mut self.velocity]))
    }
}
