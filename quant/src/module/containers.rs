//! Modules of the standard library: containers of modules, and plain constants.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use super::walk::{Walk, Walker, WalkerMut};

/// Implements `Walk` for types without parameters.
macro_rules! constants {
    ($($ty:ty),*) => {$(
        impl Walk for $ty {
            fn walk(&self, _walker: &mut Walker<'_>) {}
            fn walk_mut(&mut self, _walker: &mut WalkerMut<'_>) {}
        }
    )*};
}

constants! {
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, bool, char, String, &str, ()
}

impl<T: ?Sized> Walk for PhantomData<T> {
    fn walk(&self, _walker: &mut Walker<'_>) {}
    fn walk_mut(&mut self, _walker: &mut WalkerMut<'_>) {}
}

/// Implements `Walk` for a container whose content has the container's own path.
macro_rules! transparent {
    ($([$($bound:tt)*] $ty:ty: $self:ident => $by_ref:expr, $by_mut:expr;)*) => {$(
        impl<$($bound)*> Walk for $ty {
            fn walk(&$self, walker: &mut Walker<'_>) {
                if let Some(child) = $by_ref { child.walk(walker); }
            }
            fn walk_mut(&mut $self, walker: &mut WalkerMut<'_>) {
                if let Some(child) = $by_mut { child.walk_mut(walker); }
            }
        }
    )*};
}

transparent! {
    [M: Walk] Option<M>: self => self.as_ref(), self.as_mut();
    [M: Walk + ?Sized] Box<M>: self => Some(&**self), Some(&mut **self);
}

/// Implements `Walk` for a container whose children are named by position or key.
macro_rules! collections {
    ($([$($bound:tt)*] $ty:ty: $self:ident => $by_ref:expr, $by_mut:expr;)*) => {$(
        impl<$($bound)*> Walk for $ty {
            fn walk(&$self, walker: &mut Walker<'_>) {
                for (step, child) in $by_ref { child.walk(&mut walker.step(step)); }
            }
            fn walk_mut(&mut $self, walker: &mut WalkerMut<'_>) {
                for (step, child) in $by_mut { child.walk_mut(&mut walker.step(step)); }
            }
        }
    )*};
}

collections! {
    [M: Walk] [M]: self => self.iter().enumerate(), self.iter_mut().enumerate();
    [M: Walk] Vec<M>: self => self.iter().enumerate(), self.iter_mut().enumerate();
    [M: Walk, const N: usize] [M; N]: self => self.iter().enumerate(), self.iter_mut().enumerate();
    [M: Walk] BTreeMap<String, M>: self => self.iter(), self.iter_mut().map(|(k, v)| (k.as_str(), v));
}

macro_rules! tuples {
    ($(($($ty:ident $index:tt)*))*) => {$(
        impl<$($ty: Walk),*> Walk for ($($ty,)*) {
            fn walk(&self, walker: &mut Walker<'_>) {
                $(self.$index.walk(&mut walker.step($index));)*
            }
            fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
                $(self.$index.walk_mut(&mut walker.step($index));)*
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0 B 1)
    (A 0 B 1 C 2)
    (A 0 B 1 C 2 D 3)
    (A 0 B 1 C 2 D 3 E 4)
    (A 0 B 1 C 2 D 3 E 4 F 5)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6)
    (A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7)
}
