//! The instruction sets of aarch64, which this machine does not have.

absent!(Neon);
absent!(NeonDotprod);
