//! Observing the second moments of the inputs of layers.

use core::fmt;

use super::convert::for_each_activation_mut;
use super::taps::{MomentsSeen, Tap};
use crate::module::{ParamId, Walk, parent_of};
use crate::moments::{LayerMoments, MomentsError, SecondMoments};

impl SecondMoments {
    /// Shows a model batches, and takes the second moments of the inputs of its layers.
    ///
    /// Every batch is shown twice: the first time for the magnitude of each input, which the grid of the sums
    /// depends on. The moments do not depend on the order of batches. Layers that no batch reaches have
    /// none. The model is as before afterwards, also after an error.
    ///
    /// All matrices together are in memory: `4 · n · (n + 1)` bytes for a layer with `n` inputs. `take` says
    /// of which layers moments are taken, by the path of the input, such as `layers.0.query.input`; take a
    /// few at a time where all would not fit.
    ///
    /// # Errors
    /// The first error of `forward`, with the position of the batch; inputs of which no moments can be taken,
    /// such as more than 2^22 rows.
    pub fn observe<M: Walk, B, T, E>(
        model: &mut M,
        batches: impl IntoIterator<Item = B, IntoIter: Clone>,
        take: impl Fn(&ParamId) -> bool,
        mut forward: impl FnMut(&M, B) -> Result<T, E>,
    ) -> Result<Self, ObserveError<E>> {
        set_taps(model, |id| take(id).then(|| Tap::new(MomentsSeen::Nothing)));
        let batches = batches.into_iter();
        let mut run = |model: &mut M| -> Result<(), ObserveError<E>> {
            for (batch, data) in batches.clone().enumerate() {
                let error = |source| ObserveError::Forward { batch, source };
                forward(model, data).map(drop).map_err(error)?;
            }
            Ok(())
        };
        let observed = run(model).and_then(|()| {
            begin_sums(model)?;
            run(model)
        });
        let mut moments = Self::new();
        for_each_activation_mut(model, |site, activation| {
            let tap = activation.change_taps(site.path, |taps| taps.moments.take());
            if let Some(MomentsSeen::Moments(found)) = tap.map(Tap::into_seen) {
                moments.insert(parent_of(site.path), found);
            }
        });
        observed.map(|()| moments)
    }
}

fn set_taps(model: &mut impl Walk, tap: impl Fn(&ParamId) -> Option<Tap<MomentsSeen>>) {
    for_each_activation_mut(model, |site, activation| {
        let tap = tap(&site.path.into());
        activation.change_taps(site.path, |taps| taps.moments = tap);
    });
}

/// Gives each input that was reached its sums.
fn begin_sums<E>(model: &mut impl Walk) -> Result<(), ObserveError<E>> {
    let mut failed = None;
    for_each_activation_mut(model, |site, activation| {
        let tap = activation.change_taps(site.path, |taps| taps.moments.take());
        let Some(MomentsSeen::Magnitude(magnitude, columns)) = tap.map(Tap::into_seen) else {
            return;
        };
        match LayerMoments::for_inputs_up_to(magnitude, columns) {
            Ok(moments) => {
                let tap = Tap::new(MomentsSeen::Moments(moments));
                activation.change_taps(site.path, |taps| taps.moments = Some(tap));
            }
            Err(source) => failed = Some(ObserveError::Moments { id: site.path.into(), source }),
        }
    });
    failed.map_or(Ok(()), Err)
}

/// The second moments of a model's inputs could not be observed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ObserveError<E> {
    /// The forward pass failed.
    Forward {
        /// The position of the batch, from 0.
        batch: usize,
        /// The error of the forward pass.
        source: E,
    },
    /// An input has too many columns.
    Moments {
        /// The path of the input.
        id: ParamId,
        /// Why.
        source: MomentsError,
    },
}

impl<E: fmt::Display> fmt::Display for ObserveError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { batch, source } => write!(f, "batch {batch}: {source}"),
            Self::Moments { id, .. } => write!(f, "{id}: second moments cannot be taken"),
        }
    }
}

/// An error of the forward pass need not be an `Error`: a `Box<dyn Error>` will do. It is part of
/// the message then, and not a source.
impl<E: fmt::Debug + fmt::Display> core::error::Error for ObserveError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Forward { .. } => None,
            Self::Moments { source, .. } => Some(source),
        }
    }
}
