//! Tensors in the host's memory, and what a storage must offer to hold a parameter.
//!
//! [`FloatTensor`] is the trait of storages; [`QuantizedTensor`] holds codes,
//! scales and zero points; [`Tensor`] is either. This room imports `scheme` and the
//! kernels only. Start reading in `float.rs`, then `quantized.rs`.

mod array;
mod buffer;
#[cfg(feature = "candle")]
mod candle;
mod error;
pub(crate) mod float;
mod float_type;
#[cfg(feature = "std")]
mod grain;
pub(crate) mod host;
#[cfg(feature = "ndarray")]
mod ndarray;
mod quantized;
mod shared;
mod values;

#[cfg(feature = "candle")]
pub use candle::CandleDevice;
pub use error::TensorError;
pub use float_type::FloatType;
pub use quantized::QuantizedTensor;
pub use shared::SharedTensor;
#[cfg(feature = "std")]
pub use values::HoldsTensor;

#[cfg(feature = "std")]
pub(crate) use buffer::Buffer;
#[cfg(feature = "mmap")]
pub(crate) use buffer::{Bytes, Owner};
#[doc(hidden)]
pub use error::check_len;
pub(crate) use float_type::HalfType;
#[cfg(feature = "std")]
pub(crate) use grain::{Grain, groups_before};
#[cfg(feature = "std")]
#[doc(hidden)]
pub use grain::{common_grain, grain, part_shape};
pub(crate) use host::Repr;
#[cfg(feature = "std")]
pub(crate) use quantized::record_lens;
#[cfg(feature = "std")]
pub(crate) use values::Offsets;
pub(crate) use {float::FloatTensor, host::Tensor};
