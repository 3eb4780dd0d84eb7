//! Types whose values prove that the CPU has an instruction set.

/// Declares an instruction set. One list of features serves detection, by the macro `detected` of the
/// architecture, and compilation.
// Some architectures have the portable kernel alone.
#[allow(unused_macros)]
macro_rules! instruction_set {
    ($(#[$doc:meta])* $name:ident: $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(());

        impl $name {
            /// A value, if this CPU supports the instruction set.
            pub(crate) fn new() -> Option<Self> {
                let detected = $(detected!($feature))&&+;
                detected.then_some(Self(()))
            }

            /// Runs an operation compiled for this instruction set.
            #[inline]
            pub(crate) fn run<O: $crate::isa::Operation>(
                self,
                operation: O,
            ) -> O::Output {
                $(#[target_feature(enable = $feature)])+
                fn enabled<O: $crate::isa::Operation>(
                    isa: $name,
                    operation: O,
                ) -> O::Output {
                    operation.run(isa)
                }
                // SAFETY: `enabled` needs the features it enables. `self` exists only because
                // `new` found each of them.
                unsafe { enabled(self, operation) }
            }
        }
    };
}
