//! What can go wrong before or inside a loop over numbers.

use alloc::string::String;
use core::fmt;

/// A kernel that was asked for by name and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelUnavailable {
    /// No kernel has this name.
    Unknown {
        /// The name that was asked for.
        requested: String,
    },
    /// The kernel exists, but not on this CPU (or not for this architecture).
    Unsupported {
        /// The name that was asked for.
        requested: &'static str,
        /// The CPU features it needs.
        needs: &'static str,
    },
}

impl fmt::Display for KernelUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { requested } => write!(
                f,
                "no kernel is called `{requested}`; there are scalar, avx2, avx-vnni, avx512-vnni"
            ),
            Self::Unsupported { requested, needs } => {
                write!(f, "kernel `{requested}` needs {needs}, which this CPU lacks")
            }
        }
    }
}

impl core::error::Error for KernelUnavailable {}
