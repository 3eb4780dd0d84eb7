//! Expansions are clean where much is forbidden.

#![deny(
    missing_docs,
    unused,
    deprecated,
    private_bounds,
    private_interfaces,
    rust_2018_idioms,
    unused_qualifications,
    unused_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_pub,
    unsafe_code,
    variant_size_differences,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
#![allow(dead_code, unreachable_pub, reason = "the types are those of a library")]

use std::marker::PhantomData;

use quant::{FloatTensor, Module, Param};

use crate::{param, paths};

/// Deprecated, in whole and in part.
#[derive(Module)]
#[deprecated]
pub struct Old {
    /// A field.
    #[deprecated]
    pub field: u8,
}

/// A public type with private parts.
#[derive(Module)]
pub struct Public<'a, T: FloatTensor, L> {
    /// A field.
    pub value: Param<T>,
    private: Private<L>,
    nothing: PhantomData<&'a T>,
    #[module(keep)]
    next: Option<Box<Self>>,
}

#[derive(Module)]
struct Private<L>(L, u8);

/// An enum.
#[derive(Module)]
pub enum Choice {
    /// A variant.
    #[deprecated]
    Old,
    /// A variant.
    New(u8, #[module(skip)] f32),
}

/// An empty enum.
#[derive(Module, Clone, Copy, Debug)]
pub enum Never {}

/// A struct of a deprecated type.
#[derive(Module)]
#[allow(deprecated)]
pub struct Heir {
    old: Old,
}

#[test]
fn expansions_have_no_warnings() {
    let next = None::<Box<Public<'_, f32, Param<f32>>>>;
    let private = Private(param(1.0), 1);
    let public = Public { value: param(1.0), private, nothing: PhantomData, next };
    assert_eq!(paths(public), ["value", "private.0"]);
    assert!(paths(Choice::New(1, 2.0)).is_empty());
    #[allow(deprecated)]
    let heir = Heir { old: Old { field: 1 } };
    assert!(paths(heir).is_empty());
}
