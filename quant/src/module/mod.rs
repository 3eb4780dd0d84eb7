//! Models as trees of named leaves.
//!
//! [`Walk`] shows the leaves of a model, its parameters and states, to a walker. [`Param`] is the
//! leaf that holds a tensor, [`StateLeaf`] one that holds anything else. Visitors and mappers are
//! walks. This room imports `tensor` and `scheme` only. Start reading in `walk.rs`.

mod attachment;
#[cfg(feature = "std")]
mod cache;
mod containers;
mod id;
mod leaf;
mod map;
mod param;
mod visit;
mod walk;

pub use attachment::Attachment;
#[cfg(feature = "std")]
pub use cache::Cache;
pub use id::ParamId;
pub use leaf::StateLeaf;
pub use map::{MapError, ModuleMapper, TryModuleMapper};
pub use param::{Param, ParamView};
pub use visit::{ModuleVisitor, ParamInfo};
pub use walk::{Directive, Walk, Walker, WalkerMut};

#[doc(hidden)]
pub use self::{
    map::{for_each_mut, for_each_state_mut},
    param::ParamMut,
    visit::{for_each, for_each_state},
    walk::{FoldNorm, Leaves, LeavesMut, Site, walk, walk_mut},
};

pub(crate) use map::{Dequantize, map, try_map};
pub(crate) use visit::{params, visit};
