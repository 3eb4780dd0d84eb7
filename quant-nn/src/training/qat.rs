//! The way of a model from float to integers, by training.

use core::fmt;

use super::phase::{Learns, Phase, StepSize, with};
use super::weight::FakeWeight;
use super::{activation, weight};
use crate::layers::{FoldError, FoldNorms};
use quant::Module;
use quant::ParamId;
use quant::RecordError;
use quant::activation::{ConvertError, convert, for_each_activation, for_each_activation_mut};
use quant::calibration::{CalibrationMethod, MovingAverageCalibration};
use quant::module::{ParamMut, Walk, for_each_mut};
use quant::quantize::{WeightError, choices, prepare};
use quant::record::{Record, RecordState};
use quant::tensor::{QuantizedTensor, TensorError};
use quant::{QuantizeError, Recipe};

/// Where the scales of weights and activations come from while they are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QatOptions {
    /// Of weights; learned by default.
    pub weights: StepSize,
    /// Of static activations; by default from their range, which is observed.
    pub activations: StepSize,
}

impl Default for QatOptions {
    fn default() -> Self {
        Self { weights: StepSize::Learned, activations: StepSize::FromRange }
    }
}

/// A model in quantization-aware training; see [the module](super).
///
/// It holds the model until [`convert`](Self::convert), so that no phase can be left out: what is
/// called out of turn is an error, and nothing has changed then.
#[derive(Clone, Debug)]
pub struct Qat<M> {
    model: M,
    phase: Phase,
}

/// The key of a checkpoint's metadata under which the phase stands.
const PHASE: &str = "quant.training.phase";

impl<M: Walk> Qat<M> {
    /// Begins to train `model` for what `recipe` says: weights that it quantizes, of variables of
    /// candle in f32; activations that are static, dynamic or float.
    ///
    /// Where the recipe has no calibration of its own for activations, their ranges are moving
    /// averages.
    ///
    /// # Errors
    /// A recipe that does not fit the model or quantizes nothing of it, or a weight that it
    /// quantizes and that cannot be trained.
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
                let begun = weight::begin(param, choice, options.weights);
                let id = || site.path.into();
                failed = begun.err().map(|source| QatError::Untrainable { id: id(), source });
            }
        });
        for_each_activation_mut(&mut model, |_, it| activation::begin(it, options.activations));
        failed.map_or(Ok(Self { model, phase: Phase::Observe }), Err)
    }

    /// The model. A forward pass through it changes nothing: not a range, not a statistic.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Where training stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Calls `f` with the model, to learn from what it sees: activations are observed, and, while
    /// everything is float, norms follow the batch, as [`learning`](super::learning) says.
    ///
    /// In the phases that quantize, the statistics of norms stand still, so that what is computed
    /// in training is what is deployed; their weight and bias learn on.
    pub fn train<R>(&self, f: impl FnOnce(&M) -> R) -> R {
        let learns = match self.phase {
            Phase::Observe => Learns::RangesAndStatistics,
            Phase::Fake | Phase::Frozen => Learns::Ranges,
        };
        with(learns, || f(&self.model))
    }

    /// From observing to quantizing.
    ///
    /// # Errors
    /// Another phase; or activations that are to be static and have seen nothing: all of them.
    pub fn fake(&mut self) -> Result<(), QatError> {
        self.expect(Phase::Observe, Phase::Fake)?;
        let mut unreached = Vec::new();
        for_each_activation(&self.model, |site, activation| {
            if !activation::is_ready(activation) {
                unreached.push(site.path.into());
            }
        });
        if !unreached.is_empty() {
            return Err(QatError::Unreached(unreached));
        }
        self.enter(Phase::Fake)
    }

    /// From scales that move to scales that stand still; weights still learn.
    ///
    /// # Errors
    /// Another phase.
    pub fn freeze(&mut self) -> Result<(), QatError> {
        self.expect(Phase::Fake, Phase::Frozen)?;
        self.enter(Phase::Frozen)
    }

    fn expect(&self, from: Phase, to: Phase) -> Result<(), QatError> {
        let found = self.phase;
        if found == from { Ok(()) } else { Err(QatError::Phase { found, needed: from, to }) }
    }

    fn enter(&mut self, phase: Phase) -> Result<(), QatError> {
        let mut unreached = Vec::new();
        for_each_activation_mut(&mut self.model, |site, it| {
            if !activation::set_phase(it, phase) {
                unreached.push(site.path.into());
            }
        });
        if !unreached.is_empty() {
            return Err(QatError::Unreached(unreached));
        }
        self.phase = phase;
        set_weights_phase(&mut self.model, phase);
        Ok(())
    }

    /// The model in integers: norms folded, weights quantized by the scales that they have now,
    /// activations static. Its outputs have the bits of the training's forward pass.
    ///
    /// # Errors
    /// The phase that observes; or a weight that cannot be quantized, because it is not finite.
    pub fn convert(self) -> Result<M, QatError> {
        if self.phase == Phase::Observe {
            let (found, needed) = (self.phase, Phase::Fake);
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

    /// The record of the model in integers, for a model of the same structure over any storage.
    /// The training can go on.
    ///
    /// # Errors
    /// As [`convert`](Self::convert), or two parameters of one path.
    pub fn export(&self) -> Result<Record, QatError>
    where
        M: Clone,
    {
        Record::from_module(&self.clone().convert()?).map_err(QatError::Record)
    }

    /// Everything that training needs to go on: the model with its scales and observers, the
    /// phase, and the optimizer's state, below `model` and `optimizer`.
    ///
    /// # Errors
    /// Two parameters of one path.
    pub fn checkpoint(&self, optimizer: &impl Walk) -> Result<Record, QatError> {
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

    /// Goes on from a [checkpoint](Self::checkpoint), with an optimizer made for this model.
    ///
    /// # Errors
    /// A record that is no checkpoint, or one of another model, recipe, or options.
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
        set_weights_phase(&mut model, phase);
        let mut other = None;
        for_each_activation(&model, |site, activation| {
            if activation::phase(activation).is_some_and(|own| own != phase) {
                other = Some(QatError::MixedPhases { id: site.path.into() });
            }
        });
        other.map_or(Ok((Self { model, phase }, optimizer)), Err)
    }
}

fn set_weights_phase(model: &mut impl Walk, phase: Phase) {
    for_each_mut(model, |_, param| {
        if let Some(fake) = param.attached_mut().and_then(|it| it.downcast_mut::<FakeWeight>()) {
            fake.set_phase(phase);
        }
    });
}

/// What a parameter, if it is in training, becomes.
fn trained(param: &dyn ParamMut) -> Option<Result<QuantizedTensor, WeightError>> {
    let fake = param.attached()?.downcast_ref::<FakeWeight>()?;
    let view = param.view();
    Some(fake.quantized(&view.shape(), &view.values()))
}

const MODEL: &str = "model.";
const OPTIMIZER: &str = "optimizer.";

/// The part of a checkpoint that a path belongs to, and the path there.
fn split(id: &ParamId) -> (&'static str, ParamId) {
    let path = id.as_str();
    match (path.strip_prefix(MODEL), path.strip_prefix(OPTIMIZER)) {
        (Some(path), _) => (MODEL, path.into()),
        (_, Some(path)) => (OPTIMIZER, path.into()),
        // Unexpected, and the model will say so.
        _ => (MODEL, path.into()),
    }
}

/// Training cannot begin, go on, or end.
#[derive(Debug)]
#[non_exhaustive]
pub enum QatError {
    /// The recipe does not fit the model.
    Recipe(QuantizeError),
    /// The recipe quantizes no parameter of the model.
    Nothing,
    /// A weight is to be quantized, and cannot be trained.
    Untrainable {
        /// The weight.
        id: ParamId,
        /// Why.
        source: TensorError,
    },
    /// It is not the turn of what was called.
    Phase {
        /// The phase.
        found: Phase,
        /// The phase that it takes.
        needed: Phase,
        /// The phase that would have followed.
        to: Phase,
    },
    /// Activations that are to be static have seen nothing: all of them.
    Unreached(Vec<ParamId>),
    /// A norm cannot be folded.
    Fold(FoldError),
    /// A weight cannot be quantized.
    Weight {
        /// The weight.
        id: ParamId,
        /// Why.
        source: WeightError,
    },
    /// An activation cannot be made static.
    Convert(ConvertError),
    /// A record cannot be written or loaded.
    Record(RecordError),
    /// The record is no checkpoint: it names no phase.
    NoCheckpoint,
    /// An activation of the checkpoint is in another phase than the whole.
    MixedPhases {
        /// The activation.
        id: ParamId,
    },
}

impl fmt::Display for QatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(error) => error.fmt(f),
            Self::Nothing => f.write_str("the recipe quantizes no parameter of the model"),
            Self::Untrainable { id, source } => write!(f, "{id}: cannot be trained: {source}"),
            Self::Phase { found, needed, to } => {
                write!(f, "training is in the phase `{found}`; ")?;
                write!(f, "to go on to `{to}` it has to be in `{needed}`")
            }
            Self::Unreached(ids) => {
                f.write_str("no training data reached")?;
                for (i, id) in ids.iter().enumerate() {
                    write!(f, "{} {id}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Fold(error) => error.fmt(f),
            Self::Weight { id, source } => write!(f, "{id}: {source}"),
            Self::Convert(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::NoCheckpoint => f.write_str("the record is no checkpoint of a training"),
            Self::MixedPhases { id } => {
                write!(f, "{id}: the checkpoint has another phase for it than for the model")
            }
        }
    }
}

impl core::error::Error for QatError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Recipe(error) => Some(error),
            Self::Untrainable { source, .. } => Some(source),
            Self::Fold(error) => Some(error),
            Self::Weight { source, .. } => Some(source),
            Self::Convert(error) => Some(error),
            Self::Record(error) => Some(error),
            _ => None,
        }
    }
}
