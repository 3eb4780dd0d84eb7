//! Stand-ins for the instruction sets of other architectures: types without values, so that
//! [`dispatch`](crate::dispatch) names every instruction set on every machine.

/// Declares an instruction set that this machine cannot have.
macro_rules! absent {
    ($name:ident) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(core::convert::Infallible);

        impl $name {
            /// No value.
            pub(crate) fn new() -> Option<Self> {
                None
            }

            /// Cannot be called.
            pub(crate) fn run<O: $crate::isa::Operation>(self, _: O) -> O::Output {
                match self.0 {}
            }
        }
    };
}
