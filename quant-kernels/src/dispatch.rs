//! Which kernels this machine has, and which one is used: decided here, once.

use crate::error::KernelUnavailable;
use crate::isa::Operation;
use crate::isa::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::isa::x86_64::{Avx2, Avx512Vnni, AvxVnni};
use core::fmt;

/// What the codes of packed weights can be, where a kernel has a way of its own for either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Any 8 bits.
    FullRange,
    /// 8 bits in an [`order`](super::order) of their own.
    Permuted,
    /// At most 4 bits.
    SubByte,
}

/// One way to run the loops of this module, on this machine.
///
/// A value can be had only where the CPU supports it, so no method checks again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Token);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
}

struct Entry {
    name: &'static str,
    /// What the CPU must have, for an error message.
    needs: &'static str,
    new: fn() -> Option<Token>,
}

/// Slowest first. The tests run over this list through [`Kernel::NAMES`], so an entry added here
/// is a kernel tested there.
const KERNELS: [Entry; 4] = [
    Entry { name: "scalar", needs: "nothing", new: || Some(Token::Scalar(Scalar)) },
    Entry { name: "avx2", needs: "avx2 and fma", new: avx2 },
    Entry { name: "avx-vnni", needs: "avx2, fma and avxvnni", new: avx_vnni },
    Entry { name: "avx512-vnni", needs: "avx512 f, bw, dq, vl and vnni", new: avx512_vnni },
];

#[cfg(target_arch = "x86_64")]
fn avx2() -> Option<Token> {
    Avx2::new().map(Token::Avx2)
}

#[cfg(target_arch = "x86_64")]
fn avx_vnni() -> Option<Token> {
    AvxVnni::new().map(Token::AvxVnni)
}

#[cfg(target_arch = "x86_64")]
fn avx512_vnni() -> Option<Token> {
    Avx512Vnni::new().map(Token::Avx512Vnni)
}

#[cfg(not(target_arch = "x86_64"))]
use {absent as avx2, absent as avx_vnni, absent as avx512_vnni};

#[cfg(not(target_arch = "x86_64"))]
fn absent() -> Option<Token> {
    None
}

impl Kernel {
    /// The names of all kernels, slowest first, whether this machine has them or not.
    pub const NAMES: [&'static str; 4] =
        [KERNELS[0].name, KERNELS[1].name, KERNELS[2].name, KERNELS[3].name];

    /// The kernel that defines the answer; every machine has it.
    pub const SCALAR: Self = Self(Token::Scalar(Scalar));

    /// The fastest kernel of this machine, or the one `QUANT_KERNEL` names.
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

    /// [`Kernel::selected`], or the fastest kernel where the selection failed.
    ///
    /// For work that cannot fail. All kernels give the same bits, so nothing is wrong but the
    /// speed; whoever can report an error calls [`Kernel::selected`] first.
    #[inline]
    pub fn current() -> Self {
        // Called once per group of weights, so the result is not cloned.
        #[cfg(feature = "std")]
        if let Ok(kernel) = selection() {
            return *kernel;
        }
        Self::fastest()
    }

    /// The fastest kernel of this machine, whatever `QUANT_KERNEL` says.
    pub fn fastest() -> Self {
        Self::available().last().unwrap_or(Self::SCALAR)
    }

    /// All kernels of this machine, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        KERNELS.iter().filter_map(|entry| (entry.new)().map(Self))
    }

    /// The kernel of this name.
    ///
    /// # Errors
    /// No kernel has this name, or this CPU lacks what the kernel needs.
    pub fn named(name: &str) -> Result<Self, KernelUnavailable> {
        let Entry { name: requested, needs, new } =
            KERNELS.into_iter().find(|entry| entry.name == name).ok_or_else(|| {
                KernelUnavailable::Unknown { requested: name.into(), known: &Self::NAMES }
            })?;
        new().map(Self).ok_or(KernelUnavailable::Unsupported { requested, needs })
    }

    /// The name by which [`Kernel::named`] and `QUANT_KERNEL` know this kernel.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Token::Scalar(_) => KERNELS[0].name,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => KERNELS[1].name,
            #[cfg(target_arch = "x86_64")]
            Token::AvxVnni(_) => KERNELS[2].name,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512Vnni(_) => KERNELS[3].name,
        }
    }

    /// Runs an operation that does not multiply integers.
    pub(crate) fn run<O: Operation>(self, operation: O) -> O::Output {
        match self.0 {
            Token::Scalar(isa) => operation.run(isa),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(isa) => isa.run(operation),
            #[cfg(target_arch = "x86_64")]
            Token::AvxVnni(isa) => isa.avx2().run(operation),
            #[cfg(target_arch = "x86_64")]
            Token::Avx512Vnni(isa) => isa.run(operation),
        }
    }

    /// Whether codes of 8 bits are faster in an [`order`](super::order) of their own.
    pub(crate) const fn permutes(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Token::Avx2(_));
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// [`Kernel::run`] for work that reads the layout of weights packed with this arithmetic.
    pub(crate) fn run_as<O: Operation>(self, arithmetic: Arithmetic, operation: O) -> O::Output {
        match (self.0, arithmetic) {
            #[cfg(target_arch = "x86_64")]
            (Token::Avx2(isa), Arithmetic::FullRange) => isa.run_wide::<i8, _>(operation),
            _ => self.run(operation),
        }
    }

    /// [`Kernel::run_as`] for work that multiplies integers.
    pub(crate) fn multiply<O: Operation>(self, arithmetic: Arithmetic, operation: O) -> O::Output {
        match (self.0, arithmetic) {
            #[cfg(target_arch = "x86_64")]
            (Token::Avx2(isa), Arithmetic::Permuted) => isa.run_permuted(operation),
            #[cfg(target_arch = "x86_64")]
            (Token::AvxVnni(isa), _) => isa.run(operation),
            _ => self.run_as(arithmetic, operation),
        }
    }

    /// [`Kernel::run_as`] for work that turns integers into floats and multiplies those.
    pub(crate) fn multiply_floats<O: Operation>(
        self,
        arithmetic: Arithmetic,
        operation: O,
    ) -> O::Output {
        match (self.0, arithmetic) {
            #[cfg(target_arch = "x86_64")]
            (Token::Avx2(isa), Arithmetic::Permuted) => isa.run_permuted(operation),
            _ => self.run_as(arithmetic, operation),
        }
    }

    /// [`Kernel::multiply`] for codes that are [unpacked](super::unpack) already.
    pub(crate) fn multiply_unpacked<O: Operation>(
        self,
        arithmetic: Arithmetic,
        operation: O,
    ) -> O::Output {
        match (self.0, arithmetic) {
            #[cfg(target_arch = "x86_64")]
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
