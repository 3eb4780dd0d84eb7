//! The kernel without any instruction set: always compiled, and what the others are tested against.

use super::dispatch::Isa;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar;

impl Isa for Scalar {}
