//! Where second moments come from.

use core::fmt;
use std::sync::Arc;

use super::error::MomentsError;
use super::layer::LayerMoments;
use super::model::SecondMoments;
use crate::module::ParamId;

/// What is known of second moments before they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MomentsInfo {
    /// The number of columns.
    pub columns: usize,
    /// Whether they are a matrix, and not the diagonal alone.
    pub has_matrix: bool,
}

impl MomentsInfo {
    /// The bytes of the moments, and of what is computed from them.
    fn bytes(self) -> u64 {
        let columns = self.columns as u64;
        if self.has_matrix {
            // The sums, and a factor of the matrix.
            8 * columns.saturating_mul(columns + 1)
        } else {
            16 * columns
        }
    }
}

/// Second moments in memory, as [`SecondMoments`], or in a file, from which those of a layer are read when
/// they are needed.
pub trait MomentSource: fmt::Debug + Send + Sync {
    /// What there is for a parameter: its own moments, or those of the layer that it is a field of. `None` if
    /// there are none.
    fn describe(&self, id: &ParamId) -> Option<MomentsInfo>;

    /// The moments for a parameter; `None` if there are none.
    ///
    /// # Errors
    /// They cannot be read, or are invalid.
    fn load(&self, id: &ParamId) -> Result<Option<Arc<LayerMoments>>, MomentsError>;
}

impl MomentSource for SecondMoments {
    fn describe(&self, id: &ParamId) -> Option<MomentsInfo> {
        let moments = self.of_param(id)?;
        Some(MomentsInfo { columns: moments.columns(), has_matrix: moments.matrix().is_some() })
    }

    fn load(&self, id: &ParamId) -> Result<Option<Arc<LayerMoments>>, MomentsError> {
        Ok(self.of_param(id).cloned())
    }
}

impl<S: MomentSource + ?Sized> MomentSource for Arc<S> {
    fn describe(&self, id: &ParamId) -> Option<MomentsInfo> {
        (**self).describe(id)
    }

    fn load(&self, id: &ParamId) -> Result<Option<Arc<LayerMoments>>, MomentsError> {
        (**self).load(id)
    }
}

/// A source that recipes share. Two are equal if they are the same one.
#[derive(Clone, Debug)]
pub(crate) struct SharedMoments(pub(crate) Arc<dyn MomentSource>);

impl PartialEq for SharedMoments {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The moments for one parameter, which are loaded when they are needed.
#[derive(Clone, Debug)]
pub(crate) struct ParamMoments {
    source: Arc<dyn MomentSource>,
    id: ParamId,
    info: MomentsInfo,
}

impl ParamMoments {
    /// `None` if the source has none for it.
    pub(crate) fn of(source: &Arc<dyn MomentSource>, id: &ParamId) -> Option<Self> {
        let info = source.describe(id)?;
        Some(Self { source: source.clone(), id: id.clone(), info })
    }

    pub(crate) fn columns(&self) -> usize {
        self.info.columns
    }

    /// The bytes that they take while they are used.
    pub(crate) fn bytes(&self) -> u64 {
        self.info.bytes()
    }

    pub(crate) fn load(&self) -> Result<Arc<LayerMoments>, MomentsError> {
        let moments = self.source.load(&self.id)?.ok_or(MomentsError::Changed)?;
        if moments.columns() == self.info.columns {
            Ok(moments)
        } else {
            Err(MomentsError::Changed)
        }
    }
}
