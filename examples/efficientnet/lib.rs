//! EfficientNet-Lite0, a network for photographs with depthwise convolutions.

mod load;
mod model;
mod photos;

pub use load::{LoadError, load};
pub use model::EfficientNet;
pub use photos::{most_likely, read_photos};
