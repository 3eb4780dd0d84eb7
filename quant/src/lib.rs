#![cfg_attr(not(feature = "std"), no_std)]
//! The serde of quantization.
