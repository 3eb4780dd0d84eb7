//! The leaf that a layer has beside its parameters.

use core::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "candle")]
use super::training::Training;
use super::{ActivationScheme, saved};
use crate::calibration::{AnyObserver, Calibration, CalibrationMethod, Observer};
use crate::kernel::{Dynamic, Static};
use crate::module::{Module, ParamId, Walker, WalkerMut};
use crate::scheme::{Mapping, NonFinite, QuantParams, QuantizationType, Range, ScaleError};
#[cfg(feature = "candle")]
use crate::training::{Phase, StepSize};

/// Says how the input of a layer is quantized; beside the layer's parameters, saved with them.
///
/// A new one is float. [`Module::prepare`] makes it dynamic or lets it observe, as a recipe says;
/// [`Module::convert`] makes what it observed static.
///
/// ```
/// use quant::{ActivationMode, ActivationQuantizer, ActivationScheme, Module, Recipe};
///
/// let recipe = Recipe::new().activations(ActivationScheme::DYNAMIC);
/// let input = ActivationQuantizer::new().prepare(&recipe)?;
/// assert!(matches!(input.mode(), ActivationMode::Dynamic(_)));
/// # Ok::<(), quant::QuantizeError>(())
/// ```
#[derive(Debug, Default)]
pub struct ActivationQuantizer {
    /// The path, known since the first walk that changed the mode; for errors.
    id: Option<ParamId>,
    state: State,
}

#[derive(Debug, Default)]
pub(super) enum State {
    #[default]
    Float,
    Dynamic(Dynamic),
    Static(Fixed),
    /// Behind a lock, because a forward pass has the model by reference.
    Observing(Mutex<Observation>),
    #[cfg(feature = "candle")]
    Training(Box<Training>),
}

/// The parameters of a static activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fixed {
    pub(super) ty: QuantizationType,
    pub(super) mapping: Mapping,
    pub(super) params: QuantParams,
}

/// What was seen so far, and what it is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observation {
    pub(super) ty: QuantizationType,
    pub(super) mapping: Mapping,
    pub(super) method: CalibrationMethod,
    pub(super) observer: AnyObserver,
    /// Leave non-finite values out and count them, where they would be an error.
    pub(super) skip_non_finite: bool,
    pub(super) skipped: u64,
}

/// What an [`ActivationQuantizer`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ActivationMode {
    /// Nothing.
    Float,
    /// It watches values go by, which stay float.
    Observing,
    /// It has values quantized by the range they have.
    Dynamic(Dynamic),
    /// It has values quantized by a fixed range.
    Static(Static),
}

impl ActivationQuantizer {
    /// A quantizer that leaves activations float.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it does.
    pub fn mode(&self) -> ActivationMode {
        match &self.state {
            State::Float => ActivationMode::Float,
            State::Observing(_) => ActivationMode::Observing,
            State::Dynamic(dynamic) => ActivationMode::Dynamic(*dynamic),
            State::Static(Fixed { ty, mapping, params }) => {
                let (qmin, qmax) = ty.code_range(*mapping);
                ActivationMode::Static(Static {
                    scale: params.scale,
                    zero_point: params.zero_point,
                    range: (qmin as i8, qmax as i8),
                })
            }
            #[cfg(feature = "candle")]
            State::Training(training) => {
                training.fixed().map_or(ActivationMode::Observing, ActivationMode::Static)
            }
        }
    }

    /// The path in the model; `None` before the first walk that changed the mode.
    pub fn id(&self) -> Option<&ParamId> {
        self.id.as_ref()
    }

    /// Sees values if it is observing; else does nothing.
    ///
    /// # Errors
    /// A value is NaN or infinite, unless the recipe said to leave such values out.
    pub fn observe(&self, values: &[f32]) -> Result<(), ActivationError> {
        let observes = match &self.state {
            State::Observing(_) => true,
            #[cfg(feature = "candle")]
            State::Training(training) => training.observes(),
            _ => false,
        };
        match self.observation() {
            Some(seen) if observes => {
                locked(seen).observe(values).map_err(|source| self.non_finite(source))
            }
            _ => Ok(()),
        }
    }

    /// What it has seen, if it observes or has done so in training.
    fn observation(&self) -> Option<&Mutex<Observation>> {
        match &self.state {
            State::Observing(seen) => Some(seen),
            #[cfg(feature = "candle")]
            State::Training(training) => Some(&training.seen),
            _ => None,
        }
    }

    /// How many values were left out because they were NaN or infinite.
    pub fn skipped(&self) -> u64 {
        match &self.state {
            State::Observing(observation) => locked(observation).skipped,
            #[cfg(feature = "candle")]
            State::Training(training) => locked(&training.seen).skipped,
            _ => 0,
        }
    }

    /// The error that a value of this activation is not finite.
    pub(crate) fn non_finite(&self, source: NonFinite) -> ActivationError {
        ActivationError { id: self.name(), source }
    }

    /// The name of its layer in errors: its own path, or what it is.
    pub(crate) fn name(&self) -> ParamId {
        self.id.clone().unwrap_or_else(|| "input".into())
    }

    /// Takes the mode of `scheme`. One that observes already, for the same, goes on.
    pub(super) fn prepare(
        &mut self,
        id: ParamId,
        scheme: ActivationScheme,
        method: CalibrationMethod,
        skip_non_finite: bool,
    ) {
        self.id = Some(id);
        self.state = match (scheme, &self.state) {
            (ActivationScheme::Float, _) => State::Float,
            (ActivationScheme::Dynamic(dynamic), _) => State::Dynamic(dynamic),
            (ActivationScheme::Static { ty, mapping }, State::Observing(seen))
                if locked(seen).is_for(ty, mapping, method) =>
            {
                let mut seen = locked(seen).clone();
                seen.skip_non_finite = skip_non_finite;
                State::Observing(Mutex::new(seen))
            }
            (ActivationScheme::Static { ty, mapping }, _) => {
                let observer = method.observer();
                State::Observing(Mutex::new(Observation {
                    ty,
                    mapping,
                    method,
                    observer,
                    skip_non_finite,
                    skipped: 0,
                }))
            }
            // `quant-kernels` is pinned to this crate's version, which has no further variant.
            _ => unreachable!("every activation scheme has a mode"),
        };
    }

    /// What it would become static with; `None` if it is not observing.
    pub(super) fn observed(&self) -> Option<Result<Option<QuantParams>, ScaleError>> {
        match &self.state {
            State::Observing(seen) => {
                let seen = locked(seen);
                Some(seen.range().map(|range| seen.grid().params(range)).transpose())
            }
            #[cfg(feature = "candle")]
            State::Training(training) => {
                let stored = |QuantParams { scale, zero_point }| {
                    let scale = locked(&training.seen).grid().store(scale)?;
                    Ok(QuantParams { scale, zero_point })
                };
                let params = training.params().or_else(|| training.observed());
                Some(params.map(stored).transpose())
            }
            _ => None,
        }
    }

    /// Becomes static, if it is observing and has seen anything.
    pub(super) fn convert(&mut self) {
        let Some(Ok(Some(params))) = self.observed() else { return };
        let Some(seen) = self.observation() else { return };
        let Observation { ty, mapping, .. } = *locked(seen);
        self.state = State::Static(Fixed { ty, mapping, params });
    }
}

pub(super) fn locked(observation: &Mutex<Observation>) -> MutexGuard<'_, Observation> {
    // An observer is as it was before a batch that panicked.
    observation.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observation {
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite> {
        match self.observer.observe(values) {
            Err(_) if self.skip_non_finite => {
                let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
                self.skipped = self.skipped.saturating_add((values.len() - finite.len()) as u64);
                self.observer.observe(&finite)
            }
            result => result,
        }
    }

    pub(super) fn grid(&self) -> crate::scheme::Grid {
        crate::scheme::Grid::new(self.ty, self.mapping, crate::scheme::ScaleType::F32)
    }

    pub(super) fn range(&self) -> Option<Range> {
        self.method.range(&self.observer, self.grid())
    }

    fn is_for(&self, ty: QuantizationType, mapping: Mapping, method: CalibrationMethod) -> bool {
        (self.ty, self.mapping, self.method) == (ty, mapping, method)
    }
}

impl Clone for ActivationQuantizer {
    fn clone(&self) -> Self {
        let state = match &self.state {
            State::Float => State::Float,
            State::Dynamic(dynamic) => State::Dynamic(*dynamic),
            State::Static(fixed) => State::Static(*fixed),
            State::Observing(seen) => State::Observing(Mutex::new(locked(seen).clone())),
            #[cfg(feature = "candle")]
            State::Training(training) => State::Training(training.clone()),
        };
        Self { id: self.id.clone(), state }
    }
}

/// Equal when they do the same; observing ones, when they have seen the same.
impl PartialEq for ActivationQuantizer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.state, &other.state) {
            (State::Observing(a), State::Observing(b)) => {
                // One lock at a time: the two may be one.
                let seen = locked(a).clone();
                seen == *locked(b)
            }
            #[cfg(feature = "candle")]
            (State::Training(a), State::Training(b)) => {
                let seen = locked(&a.seen).clone();
                a.phase == b.phase && a.params() == b.params() && seen == *locked(&b.seen)
            }
            _ => self.mode() == other.mode(),
        }
    }
}

impl Module for ActivationQuantizer {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.activation(self);
        #[cfg(feature = "candle")]
        if let Some(scale) = self.training().and_then(|training| training.scale.as_ref()) {
            scale.walk(&mut walker.step_size());
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.activation(self);
        #[cfg(feature = "candle")]
        if let State::Training(training) = &mut self.state
            && let Some(scale) = &mut training.scale
        {
            scale.walk_mut(&mut walker.step_size());
        }
    }
}

impl ActivationQuantizer {
    /// Calls `put` with the format's name and the bytes in a record; not when float, which is
    /// what a record without bytes means.
    pub(crate) fn save(&self, put: impl FnOnce(&str, &[u8])) {
        if let Some(data) = saved::encode(&self.state) {
            put(saved::RECORD_KIND, &data);
        }
    }

    /// Takes the mode that `bytes` of a record say; the reason if they say none.
    pub(crate) fn decode(&mut self, id: ParamId, bytes: Option<&[u8]>) -> Result<(), String> {
        let state = bytes.map_or(Ok(State::Float), saved::decode)?;
        #[cfg_attr(not(feature = "candle"), expect(unused_variables, reason = "no training"))]
        let before = core::mem::replace(&mut self.state, state);
        #[cfg(feature = "candle")]
        if let (State::Training(before), State::Training(now)) = (before, &mut self.state) {
            // A learned scale is a tensor of the record, and has been loaded as such.
            now.scale = before.scale;
        }
        self.id = Some(id);
        Ok(())
    }
}

#[cfg(feature = "candle")]
impl ActivationQuantizer {
    fn training(&self) -> Option<&Training> {
        match &self.state {
            State::Training(training) => Some(training),
            _ => None,
        }
    }

    /// Begins training, if it is observing.
    pub(crate) fn begin_training(&mut self, steps: StepSize) {
        if let State::Observing(seen) = &self.state {
            let seen = locked(seen).clone();
            self.state = State::Training(Box::new(Training::new(seen, steps)));
        }
    }

    /// The phase of its training; `None` if it is not in training.
    pub(crate) fn phase(&self) -> Option<Phase> {
        Some(self.training()?.phase)
    }

    /// Whether it can go on to a phase that quantizes.
    pub(crate) fn is_ready(&self) -> bool {
        self.training().is_none_or(|training| training.observed().is_some())
    }

    /// Changes the phase, if it is in training.
    pub(crate) fn set_phase(&mut self, phase: Phase) {
        if let State::Training(training) = &mut self.state {
            training.set_phase(phase);
        }
    }

    /// The scale, if it is learned now.
    pub(crate) fn learned_scale(&self) -> Option<&candle_core::Tensor> {
        let training = self.training().filter(|training| training.phase == Phase::Fake)?;
        training.scale.as_ref()?.as_float()
    }

    /// Whether values are to be shown to [`observe`](Self::observe) now.
    pub(crate) fn observes(&self) -> bool {
        match &self.state {
            State::Observing(_) => true,
            State::Training(training) => training.observes(),
            _ => false,
        }
    }
}

/// A value of an activation is NaN or infinite.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActivationError {
    /// The path of the layer's quantizer, such as `layers.0.query.input`.
    pub id: ParamId,
    /// The value, and its position in the layer's input.
    pub source: NonFinite,
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.source)
    }
}

impl core::error::Error for ActivationError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}
