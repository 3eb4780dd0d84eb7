//! Detects the kernels of this machine and chooses one, once.
//!
//! Imports `isa` and `error`. Start with [`Kernel`].

use crate::error::KernelUnavailable;
use crate::isa::Operation;
use crate::isa::aarch64::{Neon, NeonDotprod};
use crate::isa::scalar::Scalar;
use crate::isa::wasm32::Simd128;
use crate::isa::x86_64::{Avx2, Avx512Vnni, AvxVnni};
use core::fmt;

/// The arithmetic that packed weights are laid out for, where a kernel has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// 8-bit codes of any value.
    FullRange,
    /// 8-bit codes in a [`permutation`](crate::pack::permutation) along K.
    Permuted,
    /// Codes of at most 4 bits.
    SubByte,
}

/// An implementation of the loops in this crate, for one instruction set.
///
/// A value exists only where the CPU supports the instruction set, so methods do not check again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Token);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Scalar(Scalar),
    Avx2(Avx2),
    AvxVnni(AvxVnni),
    Avx512Vnni(Avx512Vnni),
    Neon(Neon),
    NeonDotprod(NeonDotprod),
    Simd128(Simd128),
}

struct Entry {
    name: &'static str,
    /// The CPU features it needs, for an error message.
    needs: &'static str,
    new: fn() -> Option<Token>,
}

/// Slowest first. The tests iterate over this list through [`Kernel::NAMES`], so they cover every entry
/// added here.
const KERNELS: [Entry; 7] = [
    Entry { name: "scalar", needs: "nothing", new: || Some(Token::Scalar(Scalar)) },
    Entry { name: "avx2", needs: "avx2, fma and f16c", new: || Avx2::new().map(Token::Avx2) },
    Entry {
        name: "avx-vnni",
        needs: "avx2, fma, f16c and avxvnni",
        new: || AvxVnni::new().map(Token::AvxVnni),
    },
    Entry {
        name: "avx512-vnni",
        needs: "avx512 f, bw, dq, vl and vnni",
        new: || Avx512Vnni::new().map(Token::Avx512Vnni),
    },
    Entry { name: "neon", needs: "neon", new: || Neon::new().map(Token::Neon) },
    Entry {
        name: "neon-dotprod",
        needs: "neon and dotprod",
        new: || NeonDotprod::new().map(Token::NeonDotprod),
    },
    Entry {
        name: "simd128",
        needs: "wasm32, compiled with simd128",
        new: || Simd128::new().map(Token::Simd128),
    },
];

const fn names() -> [&'static str; KERNELS.len()] {
    let mut names = [""; KERNELS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = KERNELS[i].name;
        i += 1;
    }
    names
}

impl Kernel {
    /// The names of all kernels, slowest first, including those that this machine does not support.
    pub const NAMES: [&'static str; KERNELS.len()] = names();

    /// The portable kernel, which defines the result and runs on every machine.
    pub const SCALAR: Self = Self(Token::Scalar(Scalar));

    /// The fastest kernel of this machine, or the one that `QUANT_KERNEL` names.
    ///
    /// The environment is read at the first call only.
    ///
    /// # Errors
    /// `QUANT_KERNEL` names a kernel that does not exist or that this CPU lacks.
    pub fn selected() -> Result<Self, KernelUnavailable> {
        #[cfg(feature = "std")]
        return selection().clone();
        #[cfg(not(feature = "std"))]
        Ok(Self::fastest())
    }

    /// [`Kernel::selected`], or the fastest kernel if the selection failed.
    ///
    /// For operations that cannot return an error. All kernels give the same bits, so a failed selection
    /// affects only speed; to report it, call [`Kernel::selected`] first.
    #[inline]
    pub fn current() -> Self {
        // Called once per group of weights, so the result is not cloned.
        #[cfg(feature = "std")]
        if let Ok(kernel) = selection() {
            return *kernel;
        }
        Self::fastest()
    }

    /// The fastest kernel of this machine; ignores `QUANT_KERNEL`.
    pub fn fastest() -> Self {
        Self::available().last().unwrap_or(Self::SCALAR)
    }

    /// All kernels that this machine supports, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        KERNELS.iter().filter_map(|entry| (entry.new)().map(Self))
    }

    /// The kernel with this name.
    ///
    /// # Errors
    /// There is no kernel with this name, or this CPU does not support it.
    pub fn named(name: &str) -> Result<Self, KernelUnavailable> {
        let Entry { name: requested, needs, new } =
            KERNELS.into_iter().find(|entry| entry.name == name).ok_or_else(|| {
                KernelUnavailable::Unknown { requested: name.into(), known: &Self::NAMES }
            })?;
        new().map(Self).ok_or(KernelUnavailable::Unsupported { requested, needs })
    }

    /// The name that [`Kernel::named`] and `QUANT_KERNEL` take.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Token::Scalar(_) => KERNELS[0].name,
            Token::Avx2(_) => KERNELS[1].name,
            Token::AvxVnni(_) => KERNELS[2].name,
            Token::Avx512Vnni(_) => KERNELS[3].name,
            Token::Neon(_) => KERNELS[4].name,
            Token::NeonDotprod(_) => KERNELS[5].name,
            Token::Simd128(_) => KERNELS[6].name,
        }
    }

    /// Runs an operation without integer products.
    pub(crate) fn run<O: Operation>(self, operation: O) -> O::Output {
        match self.0 {
            Token::Scalar(isa) => operation.run(isa),
            Token::Avx2(isa) => isa.run(operation),
            Token::AvxVnni(isa) => isa.avx2().run(operation),
            Token::Avx512Vnni(isa) => isa.run(operation),
            Token::Neon(isa) => isa.run(operation),
            Token::NeonDotprod(isa) => isa.run(operation),
            Token::Simd128(isa) => isa.run(operation),
        }
    }

    /// Whether 8-bit codes are multiplied faster in a [`permutation`](crate::pack::permutation).
    pub(crate) const fn permutes(self) -> bool {
        matches!(self.0, Token::Avx2(_))
    }

    /// [`Kernel::run`] for the search of permutations, compiled only for kernels that
    /// [permute](Kernel::permutes).
    pub(crate) fn run_search<O: Operation>(self, operation: O) -> O::Output {
        match self.0 {
            Token::Avx2(isa) => isa.run(operation),
            // The others do not permute: only tests compile the search for them.
            _ if cfg!(test) => operation.run(Scalar),
            _ => unreachable!("a kernel that does not permute codes"),
        }
    }

    /// [`Kernel::run`] for an operation that reads weights packed for this arithmetic.
    pub(crate) fn run_as<O: Operation>(self, arithmetic: Arithmetic, operation: O) -> O::Output {
        match (self.0, arithmetic) {
            (Token::Avx2(isa), Arithmetic::FullRange) => isa.run_wide::<i8, _>(operation),
            (Token::Simd128(isa), Arithmetic::FullRange) => isa.run_wide(operation),
            _ => self.run(operation),
        }
    }

    /// [`Kernel::run`] for an operation with integer products, whose weights are not packed for an arithmetic.
    pub(crate) fn run_integer<O: Operation>(self, operation: O) -> O::Output {
        match self.0 {
            Token::AvxVnni(isa) => isa.run(operation),
            _ => self.run(operation),
        }
    }

    /// [`Kernel::run_as`] for integer products.
    pub(crate) fn multiply<O: Operation>(self, arithmetic: Arithmetic, operation: O) -> O::Output {
        match (self.0, arithmetic) {
            (Token::Avx2(isa), Arithmetic::Permuted) => isa.run_permuted(operation),
            (Token::Avx2(isa), Arithmetic::FullRange) => isa.run_wide::<i8, _>(operation),
            (Token::Simd128(isa), Arithmetic::FullRange) => isa.run_wide(operation),
            _ => self.run_integer(operation),
        }
    }

    /// [`Kernel::run_as`] for products of floats with codes.
    pub(crate) fn multiply_floats<O: Operation>(
        self,
        arithmetic: Arithmetic,
        operation: O,
    ) -> O::Output {
        match (self.0, arithmetic) {
            (Token::Avx2(isa), Arithmetic::Permuted) => isa.run_permuted(operation),
            _ => self.run_as(arithmetic, operation),
        }
    }

    /// [`Kernel::multiply`] for panels that are [unpacked](crate::pack::unpack) already.
    pub(crate) fn multiply_unpacked<O: Operation>(
        self,
        arithmetic: Arithmetic,
        operation: O,
    ) -> O::Output {
        match (self.0, arithmetic) {
            (Token::Avx2(isa), Arithmetic::FullRange) => isa.run_wide::<i16, _>(operation),
            _ => self.multiply(arithmetic, operation),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.name())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "std")]
#[inline]
fn selection() -> &'static Result<Kernel, KernelUnavailable> {
    static SELECTION: std::sync::OnceLock<Result<Kernel, KernelUnavailable>> =
        std::sync::OnceLock::new();
    SELECTION.get_or_init(|| match std::env::var_os("QUANT_KERNEL") {
        None => Ok(Kernel::fastest()),
        Some(name) if name.is_empty() => Ok(Kernel::fastest()),
        Some(name) => Kernel::named(&name.to_string_lossy()),
    })
}
