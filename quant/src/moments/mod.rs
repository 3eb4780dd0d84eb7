//! Second moments of the inputs of layers: what methods for few bits weigh errors with.
//!
//! Of a layer whose inputs are the rows `x`, they are `H = Σ x xᵀ`, or its diagonal alone. This room
//! imports `module` and the kernels. Start reading in `layer.rs`.

mod error;
mod factor;
mod layer;
mod model;
mod source;

pub use error::MomentsError;
pub(crate) use factor::Factor;
pub use layer::LayerMoments;
pub use model::SecondMoments;
pub use source::{MomentSource, MomentsInfo};
pub(crate) use source::{ParamMoments, SharedMoments};
