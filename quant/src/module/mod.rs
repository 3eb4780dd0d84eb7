//! Models as trees of named leaves.
//!
//! [`Walk`] shows the leaves of a model, its parameters and states, to a walker. [`Param`](crate::Param) is the
//! leaf that holds a tensor, [`StateLeaf`] one that holds anything else. Visitors and mappers are
//! walks. This room imports `tensor` and `scheme` only. Start reading in `walk.rs`.

mod attached;
#[cfg(feature = "std")]
mod cache;
mod containers;
pub(crate) mod id;
mod leaf;
pub(crate) mod map;
pub(crate) mod param;
#[cfg(feature = "std")]
mod values;
mod view;
mod visit;
mod walk;

#[cfg(feature = "std")]
pub use cache::Cache;
pub use leaf::StateLeaf;
pub use map::{MapError, TryModuleMapper};
pub use view::ParamView;
pub use visit::{ModuleVisitor, ParamInfo};
pub use walk::{Attachment, Directive, Walk, Walker, WalkerMut};

#[doc(hidden)]
pub use self::{
    id::parent_of,
    map::{for_each_mut, for_each_state_mut},
    visit::{for_each, for_each_attachment, for_each_state},
    walk::{FoldNorm, Leaves, LeavesMut, ParamMut, Site, walk, walk_mut},
};

pub(crate) use map::{Dequantize, map, try_map};
#[cfg(feature = "std")]
pub(crate) use values::change_values;
pub(crate) use visit::{params, visit};
pub(crate) use {id::ParamId, map::ModuleMapper};
