//! Quantization-aware training: a model, and the phases it goes through.

mod error;

use crate::layers::FoldNorms;
use crate::train_state::phase::Phase;
use crate::train_state::scale::ScaleSource;
use crate::train_state::train_mode::{Updates, with_updates};
use crate::train_state::weight::FakeWeight;
use crate::train_state::{activation, weight};
use quant::Module;
use quant::ParamId;
use quant::Recipe;
use quant::activation::{convert, for_each_activation, for_each_activation_mut};
use quant::calibration::{CalibrationMethod, MovingAverageCalibration};
use quant::module::{ParamMut, Walk, for_each_attachment, for_each_mut};
use quant::quantize::{WeightError, choices, prepare};
use quant::record::{Record, RecordState};
use quant::tensor::QuantizedTensor;

pub use error::QatError;

/// Where the scales of weights and activations come from while they are trained.
///
/// ```
/// use quant_nn::training::{QatOptions, ScaleSource};
///
/// let options = QatOptions::new().activation_scales(ScaleSource::Learned);
/// assert_eq!(options.weight_scales, ScaleSource::Learned);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QatOptions {
    /// Those of weights; learned by default.
    pub weight_scales: ScaleSource,
    /// Those of static activations; from the observed range by default.
    pub activation_scales: ScaleSource,
}

impl QatOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { weight_scales: ScaleSource::Learned, activation_scales: ScaleSource::Range }
    }

    /// With this source of the scales of weights.
    #[must_use]
    pub const fn weight_scales(self, weight_scales: ScaleSource) -> Self {
        Self { weight_scales, ..self }
    }

    /// With this source of the scales of static activations.
    #[must_use]
    pub const fn activation_scales(self, activation_scales: ScaleSource) -> Self {
        Self { activation_scales, ..self }
    }
}

impl Default for QatOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A model in quantization-aware training; see [the module](super).
///
/// It owns the model until [`convert`](Self::convert), so that no phase can be skipped: a call out
/// of order is an error and changes nothing.
#[derive(Clone, Debug)]
pub struct Qat<M> {
    model: M,
    phase: Phase,
}

/// The metadata key of the phase in a checkpoint.
const PHASE: &str = "quant.training.phase";

impl<M: Walk> Qat<M> {
    /// Prepares `model` for training with the weights and activations that `recipe` quantizes.
    /// Those weights must be variables of candle in f32.
    ///
    /// If the recipe has no calibration for activations, their ranges are moving averages.
    ///
    /// # Errors
    /// A recipe that does not fit the model or quantizes none of its parameters, or a weight to be
    /// quantized that is not a variable in f32.
    pub fn new(model: M, recipe: &Recipe, options: QatOptions) -> Result<Self, QatError> {
        let recipe = if recipe.has_activation_calibration() {
            recipe.clone()
        } else {
            let average = MovingAverageCalibration::default();
            recipe.clone().activation_calibration(CalibrationMethod::MovingAverage(average))
        };
        let choices = choices(&recipe, &model).map_err(QatError::Recipe)?;
        if choices.is_empty() {
            return Err(QatError::Nothing);
        }
        let mut model = prepare(&recipe, model).map_err(QatError::Recipe)?;
        let mut failed = None;
        for_each_mut(&mut model, |site, param| {
            if let (None, Some(choice)) = (&failed, choices.get(site.path)) {
                let begun = weight::begin(param, choice, options.weight_scales);
                let id = || site.path.into();
                failed = begun.err().map(|source| QatError::Untrainable { id: id(), source });
            }
        });
        for_each_activation_mut(&mut model, |_, it| {
            activation::begin(it, options.activation_scales);
        });
        failed.map_or(Ok(Self { model, phase: Phase::Observe }), Err)
    }

    /// The model. A forward pass through it changes no ranges and no statistics.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The phase of the training.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Calls `f` with the model in train mode: activations are observed, and, in
    /// [`Phase::Observe`], norms use and update the statistics of the batch; see
    /// [`train_mode`](super::train_mode).
    ///
    /// In the later phases the statistics of norms are fixed, so that the trained model computes
    /// what the deployed one computes; the weights and biases of norms are still trained.
    pub fn train<R>(&self, f: impl FnOnce(&M) -> R) -> R {
        let updates = match self.phase {
            Phase::Observe => Updates::RangesAndStatistics,
            Phase::FakeQuant | Phase::Frozen => Updates::Ranges,
        };
        with_updates(updates, || f(&self.model))
    }

    /// Enters [`Phase::FakeQuant`] from [`Phase::Observe`].
    ///
    /// # Errors
    /// Another phase, or static activations that observed no values: all of them.
    pub fn enable_fake_quant(&mut self) -> Result<(), QatError> {
        self.expect(Phase::Observe, Phase::FakeQuant)?;
        let mut unreached = Vec::new();
        for_each_activation(&self.model, |site, activation| {
            if !activation::is_ready(activation) {
                unreached.push(site.path.into());
            }
        });
        if !unreached.is_empty() {
            return Err(QatError::Unreached(unreached));
        }
        self.enter(Phase::FakeQuant)
    }

    /// Enters [`Phase::Frozen`] from [`Phase::FakeQuant`].
    ///
    /// # Errors
    /// Another phase.
    pub fn freeze(&mut self) -> Result<(), QatError> {
        self.expect(Phase::FakeQuant, Phase::Frozen)?;
        self.enter(Phase::Frozen)
    }

    fn expect(&self, from: Phase, to: Phase) -> Result<(), QatError> {
        let found = self.phase;
        if found == from { Ok(()) } else { Err(QatError::Phase { found, needed: from, to }) }
    }

    fn enter(&mut self, phase: Phase) -> Result<(), QatError> {
        let mut failed = None;
        for_each_activation_mut(&mut self.model, |site, it| {
            if failed.is_none() {
                let id = || site.path.into();
                let set = activation::set_phase(it, phase);
                failed = set.err().map(|source| QatError::Untrainable { id: id(), source });
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        self.phase = phase;
        for_each_weight_mut(&mut self.model, |fake| fake.set_phase(phase));
        Ok(())
    }

    /// The model in integers: norms are folded, weights are quantized with their current scales,
    /// and activations are static. Its outputs have the bits of [`model`](Self::model)'s.
    ///
    /// # Errors
    /// [`Phase::Observe`], or a weight or scale that is not finite.
    pub fn convert(self) -> Result<M, QatError> {
        if self.phase == Phase::Observe {
            let (found, needed) = (self.phase, Phase::FakeQuant);
            return Err(QatError::Phase { found, needed, to: Phase::Frozen });
        }
        let mut model = self.model.fold_norms().map_err(QatError::Fold)?;
        let mut failed = None;
        for_each_mut(&mut model, |site, param| {
            if failed.is_some() {
                return;
            }
            match trained(param) {
                None => {}
                Some(Ok(tensor)) => param
                    .put(tensor.into())
                    .expect("a quantized tensor takes any parameter's place"),
                Some(Err(source)) => {
                    failed = Some(QatError::Weight { id: site.path.into(), source });
                }
            }
        });
        match failed {
            None => convert(model).map_err(QatError::Convert),
            Some(error) => Err(error),
        }
    }

    /// The record of the [converted](Self::convert) model, which a model of the same structure
    /// loads, whatever its storage. Training can continue.
    ///
    /// # Errors
    /// As [`convert`](Self::convert), or two parameters of one path.
    pub fn export(&self) -> Result<Record, QatError>
    where
        M: Clone,
    {
        Record::from_module(&self.clone().convert()?).map_err(QatError::Record)
    }

    /// The record from which training can be resumed: the phase, the model with its scales and
    /// observers below `model`, and the state of the optimizer below `optimizer`.
    ///
    /// # Errors
    /// Two parameters of one path, or a scale that [`restore`](Self::restore) would refuse.
    pub fn checkpoint(&self, optimizer: &impl Walk) -> Result<Record, QatError> {
        check_scales(&self.model)?;
        let mut checkpoint = Record::new();
        checkpoint.insert_metadata(PHASE, self.phase.name());
        let parts = [
            (MODEL, Record::from_module(&self.model)),
            (OPTIMIZER, Record::from_module(optimizer)),
        ];
        for (prefix, part) in parts {
            let part = part.map_err(QatError::Record)?;
            for state in part.states() {
                let id = format!("{prefix}{}", state.id).into();
                checkpoint.insert_state(RecordState { id, ..state.clone() });
            }
            checkpoint
                .extend(part.into_iter().map(|(id, tensor)| (format!("{prefix}{id}"), tensor)));
        }
        Ok(checkpoint)
    }

    /// Resumes from a [checkpoint](Self::checkpoint), with an optimizer made for this model.
    ///
    /// # Errors
    /// A record that is not a checkpoint, or is one of another model, recipe or options; a scale of a
    /// weight or an input that is not positive and normal in its type.
    pub fn restore<O: Walk>(self, optimizer: O, checkpoint: Record) -> Result<(Self, O), QatError> {
        let named = checkpoint.metadata().get(PHASE);
        let phase = named.and_then(|name| Phase::ALL.into_iter().find(|p| p.name() == name));
        let Some(phase) = phase else { return Err(QatError::NoCheckpoint) };
        let (mut own, mut of_optimizer) = (Record::new(), Record::new());
        for state in checkpoint.states() {
            let (part, id) = match split(&state.id) {
                (OPTIMIZER, id) => (&mut of_optimizer, id),
                (_, id) => (&mut own, id),
            };
            part.insert_state(RecordState { id, ..state.clone() });
        }
        for (id, tensor) in checkpoint {
            let (part, id) = match split(&id) {
                (OPTIMIZER, id) => (&mut of_optimizer, id),
                (_, id) => (&mut own, id),
            };
            part.insert(id, tensor);
        }
        let mut model = self.model.load_record(own).map_err(QatError::Record)?;
        let optimizer = optimizer.load_record(of_optimizer).map_err(QatError::Record)?;
        for_each_weight_mut(&mut model, |fake| {
            fake.set_phase(phase);
            fake.loaded();
        });
        let mut other = None;
        for_each_activation(&model, |site, activation| {
            if activation::phase(activation).is_some_and(|own| own != phase) {
                other = Some(QatError::MixedPhases { id: site.path.into() });
            }
        });
        other.map_or(Ok(()), Err)?;
        check_scales(&model)?;
        Ok((Self { model, phase }, optimizer))
    }
}

/// Calls `f` with what training attached to each weight.
fn for_each_weight_mut(model: &mut impl Walk, mut f: impl FnMut(&mut FakeWeight)) {
    for_each_mut(model, |_, param| {
        if let Some(fake) = param.attached_mut().and_then(|it| it.downcast_mut::<FakeWeight>()) {
            f(fake);
        }
    });
}

/// Checks every scale that training keeps: those of weights are valid or not set yet, those of inputs are
/// valid from the phase on that uses them.
fn check_scales(model: &impl Walk) -> Result<(), QatError> {
    let mut checked = Ok(());
    for_each_attachment(model, |site, attachment| {
        if let (Ok(()), Some(fake)) = (&checked, attachment.downcast_ref::<FakeWeight>()) {
            let id = || site.path.into();
            checked =
                fake.set_params().map(drop).map_err(|source| QatError::Weight { id: id(), source });
        }
    });
    for_each_activation(model, |site, it| {
        if checked.is_ok() {
            let id = || site.path.into();
            checked =
                activation::check_scale(it).map_err(|source| QatError::Scale { id: id(), source });
        }
    });
    checked
}

/// The quantized tensor of a parameter in training; `None` for any other parameter.
fn trained(param: &dyn ParamMut) -> Option<Result<QuantizedTensor, WeightError>> {
    let fake = param.attached()?.downcast_ref::<FakeWeight>()?;
    let view = param.view();
    Some(fake.quantized(&view.shape(), &view.values()))
}

const MODEL: &str = "model.";
const OPTIMIZER: &str = "optimizer.";

/// The prefix of a path in a checkpoint, and the path below it.
fn split(id: &ParamId) -> (&'static str, ParamId) {
    let path = id.as_str();
    match (path.strip_prefix(MODEL), path.strip_prefix(OPTIMIZER)) {
        (Some(path), _) => (MODEL, path.into()),
        (_, Some(path)) => (OPTIMIZER, path.into()),
        // Loading the model reports it as unexpected.
        _ => (MODEL, path.into()),
    }
}
