//! The leaf that a layer has beside its parameters.

use core::fmt;
use std::sync::Mutex;

use super::observation::{Observation, locked};
use super::saved;
use super::state::{Fixed, Observing, State};
use super::taps::{MomentsSeen, OutputsSeen, Tap, Taps};
use super::training::ActivationTraining;
use crate::calibration::CalibrationMethod;
use crate::module::{ParamId, StateLeaf, Walk, Walker, WalkerMut};
use crate::moments::MomentsError;
use crate::scheme::{
    ActivationScheme, DynamicQuantization, Grid, NonFinite, QuantParams, Quantization, ScaleError,
    ScaleType,
};

/// How the input of a layer is quantized: a state leaf beside the layer's parameters, saved with
/// them.
///
/// A new one is float. [`Module::prepare`](crate::Module::prepare) makes it dynamic or lets it
/// observe, as a recipe says; [`Module::convert`](crate::Module::convert) makes what it observed
/// static.
///
/// ```
/// use quant::activation::{ActivationMode, ActivationQuantizer};
/// use quant::scheme::ActivationScheme;
/// use quant::{Module, Recipe};
///
/// let recipe = Recipe::new().activations(ActivationScheme::DYNAMIC);
/// let input = ActivationQuantizer::new().prepare(&recipe)?;
/// assert!(matches!(input.mode(), ActivationMode::Dynamic(_)));
/// # Ok::<(), quant::QuantizeError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ActivationQuantizer {
    /// The path, known since the first walk that changed the mode; for errors.
    id: Option<ParamId>,
    state: State,
    /// What receives inputs and outputs, while they are observed.
    taps: Option<Box<Taps>>,
}

/// How an [`ActivationQuantizer`] treats its input.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ActivationMode {
    /// The input stays float.
    Float,
    /// The input is to be quantized so, but the model was neither prepared nor calibrated yet.
    /// A layer refuses to run.
    Pending(ActivationScheme),
    /// The input stays float, and its range is observed.
    Observing,
    /// The input is quantized by the range that it has.
    Dynamic(DynamicQuantization),
    /// The input is quantized by a fixed range.
    Static(Quantization),
}

impl ActivationQuantizer {
    /// A quantizer that leaves the input float.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the input is quantized now.
    pub fn mode(&self) -> ActivationMode {
        match &self.state {
            State::Float => ActivationMode::Float,
            State::Pending(scheme) => ActivationMode::Pending(*scheme),
            State::Observing(observing) => {
                observing.fixed().map_or(ActivationMode::Observing, ActivationMode::Static)
            }
            State::Dynamic(dynamic) => ActivationMode::Dynamic(*dynamic),
            State::Static(Fixed { ty, mapping, params }) => {
                let grid = Grid::new(*ty, (*mapping).into(), ScaleType::F32);
                ActivationMode::Static(Quantization::new(*params, grid))
            }
        }
    }

    /// The path in the model; `None` before the first walk that changed the mode.
    pub fn id(&self) -> Option<&ParamId> {
        self.id.as_ref()
    }

    /// Shows `values`, the input of a layer, to the observer, if there is one. A layer calls this
    /// before it asks for the [`mode`](Self::mode).
    ///
    /// # Errors
    /// A value is NaN or infinite, unless the recipe said to leave such values out. Or a step was
    /// forgotten: the quantizer is pending, or calibration has ended and
    /// [`convert`](crate::Module::convert) was not called.
    pub fn observe(&self, values: &[f32]) -> Result<(), ActivationError> {
        match &self.state {
            State::Pending(scheme) => {
                Err(ActivationError::Pending { id: self.name(), scheme: *scheme })
            }
            State::Observing(observing) if observing.ended => {
                Err(ActivationError::Unconverted { id: self.name() })
            }
            State::Observing(observing) if observing.observes() => {
                locked(&observing.seen).observe(values).map_err(|source| self.non_finite(source))
            }
            _ => Ok(()),
        }
    }

    /// [`observe`](Self::observe) for rows that a weight is multiplied with, which second moments are taken
    /// of, if they are [observed](crate::moments::SecondMoments::observe).
    ///
    /// # Errors
    /// As [`observe`](Self::observe); also more rows than second moments can have.
    pub fn observe_rows(&self, values: &[f32], columns: usize) -> Result<(), ActivationError> {
        self.observe(values)?;
        self.observe_moments(values, columns)
    }

    /// The part of [`observe_rows`](Self::observe_rows) that is for second moments alone, for layers whose rows
    /// are not their input: those of a convolution are the values under its kernel.
    ///
    /// # Errors
    /// A value that is NaN or infinite, other columns than before, or more rows than second moments can have.
    pub fn observe_moments(&self, rows: &[f32], columns: usize) -> Result<(), ActivationError> {
        let Some(tap) = self.moment_tap() else { return Ok(()) };
        tap.add(columns, rows)
            .map_err(|source| ActivationError::Moments { id: self.name(), source })
    }

    /// Whether [`observe_moments`](Self::observe_moments) does anything, for layers that have to gather the
    /// rows.
    pub fn observes_moments(&self) -> bool {
        self.moment_tap().is_some()
    }

    /// Shows the outputs of a layer, if they are [compared](super::LayerComparison) with those of another
    /// model. A layer calls this at the end of its forward pass. `run` is how many neighbours belong to one
    /// channel: 1 for `[…, out]`, `height · width` for `[…, out, height, width]`.
    pub fn observe_outputs(&self, values: &[f32], run: usize) {
        if let Some(tap) = self.output_tap() {
            tap.add(values, run);
        }
    }

    /// Whether [`observe_outputs`](Self::observe_outputs) does anything, for backends where the values have to
    /// be fetched.
    pub fn observes_outputs(&self) -> bool {
        self.output_tap().is_some()
    }

    /// Changes what receives inputs and outputs.
    pub(super) fn change_taps<T>(&mut self, path: &str, change: impl FnOnce(&mut Taps) -> T) -> T {
        self.id = Some(path.into());
        let mut taps = self.taps.take().unwrap_or_default();
        let changed = change(&mut taps);
        self.taps = Some(taps).filter(|taps| taps.moments.is_some() || taps.outputs.is_some());
        changed
    }

    fn moment_tap(&self) -> Option<&Tap<MomentsSeen>> {
        self.taps.as_ref()?.moments.as_ref()
    }

    fn output_tap(&self) -> Option<&Tap<OutputsSeen>> {
        self.taps.as_ref()?.outputs.as_ref()
    }

    fn observing(&self) -> Option<&Observing> {
        match &self.state {
            State::Observing(observing) => Some(observing),
            _ => None,
        }
    }

    /// The number of values that calibration left out because they were NaN or infinite.
    pub fn skipped(&self) -> u64 {
        self.observing().map_or(0, |observing| locked(&observing.seen).skipped)
    }

    /// The error that a value of this input is not finite.
    pub fn non_finite(&self, source: NonFinite) -> ActivationError {
        ActivationError::NonFinite { id: self.name(), source }
    }

    /// The name of the input in errors: its path, or `input` before the first walk.
    pub fn name(&self) -> ParamId {
        self.id.clone().unwrap_or_else(|| "input".into())
    }

    /// Becomes pending, unless the mode is already what `scheme` asks for, or leads there.
    pub(crate) fn expect(&mut self, id: ParamId, scheme: ActivationScheme) {
        let is_met = match (&self.state, scheme) {
            (_, ActivationScheme::Float) => true,
            (State::Dynamic(own), ActivationScheme::Dynamic(dynamic)) => *own == dynamic,
            (State::Static(own), ActivationScheme::Static { ty, mapping }) => {
                (own.ty, own.mapping) == (ty, mapping)
            }
            (State::Observing(own), ActivationScheme::Static { ty, mapping }) => {
                let seen = locked(&own.seen);
                (seen.ty, seen.mapping) == (ty, mapping)
            }
            _ => false,
        };
        if !is_met {
            self.id = Some(id);
            self.state = State::Pending(scheme);
        }
    }

    /// Takes the mode of `scheme`. One that observes already, for the same, goes on.
    pub(crate) fn prepare(
        &mut self,
        id: ParamId,
        scheme: ActivationScheme,
        method: CalibrationMethod,
        skip_non_finite: bool,
    ) {
        self.id = Some(id);
        self.state = match (scheme, &self.state) {
            (ActivationScheme::Dynamic(dynamic), _) => State::Dynamic(dynamic),
            (ActivationScheme::Static { ty, mapping }, State::Observing(own))
                if locked(&own.seen).is_for(ty, mapping, method) =>
            {
                let seen = Observation { skip_non_finite, ..locked(&own.seen).clone() };
                State::Observing(Observing::new(seen))
            }
            (ActivationScheme::Static { ty, mapping }, _) => {
                let seen = Observation::new(ty, mapping, method, skip_non_finite);
                State::Observing(Observing::new(seen))
            }
            (ActivationScheme::Float, _) => State::Float,
            // `quant-kernels` is pinned to this crate's version, which has no further variant.
            _ => unreachable!("every activation scheme has a mode"),
        };
    }

    /// Leaves the input float from now on.
    pub(super) fn make_float(&mut self) {
        self.state = State::Float;
    }

    /// Observes no more until it is prepared again; what follows is the conversion.
    pub(crate) fn end_calibration(&mut self) {
        if let State::Observing(observing) = &mut self.state {
            observing.ended = observing.training.is_none();
        }
    }

    /// What it would become static with; `None` if it is not observing.
    pub(super) fn observed(&self) -> Option<Result<Option<QuantParams>, ScaleError>> {
        let observing = self.observing()?;
        let seen = locked(&observing.seen);
        let in_training = observing.training.as_ref().and_then(|training| training.params(&seen));
        let params = match in_training {
            Some(params) => Some(
                seen.grid()
                    .store(params.scale())
                    .and_then(|scale| QuantParams::new(scale, params.zero_point())),
            ),
            None => seen.params(),
        };
        Some(params.transpose())
    }

    /// Becomes static, if it is observing and has seen anything.
    pub(super) fn convert(&mut self) {
        let Some(Ok(Some(params))) = self.observed() else { return };
        let Some(observing) = self.observing() else { return };
        let Observation { ty, mapping, .. } = *locked(&observing.seen);
        self.state = State::Static(Fixed { ty, mapping, params });
    }
}

/// What a crate that trains needs.
#[doc(hidden)]
impl ActivationQuantizer {
    /// Attaches `training` if it is observing; says whether it is.
    pub fn begin_training(
        &mut self,
        training: impl FnOnce() -> Box<dyn ActivationTraining>,
    ) -> bool {
        let State::Observing(observing) = &mut self.state else { return false };
        observing.ended = false;
        observing.training = Some(training());
        true
    }

    /// The training that is attached.
    pub fn training(&self) -> Option<&dyn ActivationTraining> {
        self.observing()?.training.as_deref()
    }

    /// The training that is attached, to be changed, with what was observed.
    pub fn training_mut(&mut self) -> Option<(&mut dyn ActivationTraining, &Mutex<Observation>)> {
        match &mut self.state {
            State::Observing(Observing { training: Some(training), seen, .. }) => {
                Some((&mut **training, seen))
            }
            _ => None,
        }
    }

    /// The scale and zero point of the observed range; `None` if no values were seen, or none
    /// are observed.
    pub fn observed_params(&self) -> Option<QuantParams> {
        locked(&self.observing()?.seen).params()?.ok()
    }

    /// Whether a forward pass has to show its input to [`observe`](Self::observe).
    pub fn observes(&self) -> bool {
        self.moment_tap().is_some() || self.state_observes()
    }

    fn state_observes(&self) -> bool {
        match &self.state {
            State::Pending(_) => true,
            State::Observing(observing) => observing.ended || observing.observes(),
            _ => false,
        }
    }
}

/// Equal when they do the same; observing ones, when they have seen the same.
impl PartialEq for ActivationQuantizer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.state, &other.state) {
            (State::Observing(a), State::Observing(b)) => {
                // One lock at a time: the two may be one.
                let (seen, params) = (locked(&a.seen).clone(), a.fixed());
                let saved = |it: &Observing| it.training.as_ref().map(|training| training.save());
                saved(a) == saved(b) && params == b.fixed() && seen == *locked(&b.seen)
            }
            _ => self.mode() == other.mode(),
        }
    }
}

impl Walk for ActivationQuantizer {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.state(self);
        if let Some(training) = self.training() {
            training.walk(walker);
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.state(self);
        if let Some((training, _)) = self.training_mut() {
            training.walk_mut(walker);
        }
    }
}

/// As `activation/1` of `docs/record-format.md`. A float quantizer stores nothing.
impl StateLeaf for ActivationQuantizer {
    fn kind(&self) -> &str {
        saved::RECORD_KIND
    }

    fn save(&self) -> Option<Vec<u8>> {
        saved::encode(&self.state)
    }

    fn load(&mut self, path: &ParamId, data: Option<&[u8]>) -> Result<(), String> {
        let mut state = State::Float;
        if let Some(data) = data {
            // A learned scale is a tensor of the record, and is loaded as such: the training
            // that is attached goes on.
            let training = match &self.state {
                State::Observing(Observing { training, .. }) => training.clone(),
                _ => None,
            };
            state = saved::decode(data, training)?;
        }
        self.state = state;
        self.id = Some(path.clone());
        Ok(())
    }
}

/// The input of a layer cannot be quantized or observed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ActivationError {
    /// A value is NaN or infinite.
    NonFinite {
        /// The path of the layer's quantizer, such as `layers.0.query.input`.
        id: ParamId,
        /// The value, and its position in the layer's input.
        source: NonFinite,
    },
    /// The recipe wants the input quantized, and the model was neither prepared nor calibrated.
    Pending {
        /// The path of the layer's quantizer.
        id: ParamId,
        /// The scheme that the recipe wants.
        scheme: ActivationScheme,
    },
    /// The input was calibrated, and was not converted.
    Unconverted {
        /// The path of the layer's quantizer.
        id: ParamId,
    },
    /// The second moments of the input cannot be taken.
    Moments {
        /// The path of the layer's quantizer.
        id: ParamId,
        /// Why.
        source: MomentsError,
    },
}

impl ActivationError {
    /// The path of the layer's quantizer.
    pub fn id(&self) -> &ParamId {
        match self {
            Self::NonFinite { id, .. }
            | Self::Pending { id, .. }
            | Self::Unconverted { id }
            | Self::Moments { id, .. } => id,
        }
    }
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFinite { id, .. } => write!(f, "{id}: the input is not finite"),
            Self::Pending { id, scheme: scheme @ ActivationScheme::Static { .. } } => write!(
                f,
                "{id}: the recipe wants {scheme} inputs, but this input was not calibrated; call \
                 `calibrate` and `convert`, or `quantize_with`"
            ),
            Self::Pending { id, scheme } => write!(
                f,
                "{id}: the recipe wants {scheme} inputs, but this input was not prepared; call \
                 `prepare`, or `quantize`"
            ),
            Self::Unconverted { id } => {
                write!(f, "{id}: this input was calibrated, but not converted; call `convert`")
            }
            Self::Moments { id, .. } => write!(f, "{id}: second moments cannot be taken"),
        }
    }
}

impl core::error::Error for ActivationError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NonFinite { source, .. } => Some(source),
            Self::Moments { source, .. } => Some(source),
            Self::Pending { .. } | Self::Unconverted { .. } => None,
        }
    }
}
