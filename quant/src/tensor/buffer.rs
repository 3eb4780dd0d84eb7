//! The memory of a tensor's elements.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

/// Elements that a tensor owns, or that are in shared memory, such as a mapped file.
pub(crate) struct Buffer<T>(Repr<T>);

enum Repr<T> {
    Owned(Vec<T>),
    #[cfg(feature = "mmap")]
    Shared(Shared),
}

/// Shared memory, which the tensors in it keep alive.
///
/// The bytes must stay the same as long as the owner lives.
#[cfg(feature = "mmap")]
pub(crate) type Owner = alloc::sync::Arc<dyn Bytes>;

/// The bounds of shared memory: a tensor is `Send` and `Sync` if its elements are.
#[cfg(feature = "mmap")]
pub(crate) trait Bytes:
    AsRef<[u8]> + Send + Sync + core::panic::UnwindSafe + core::panic::RefUnwindSafe
{
    /// Announces that these bytes are about to be read.
    fn will_need(&self, _start: usize, _len: usize) {}
}

#[cfg(feature = "mmap")]
#[derive(Clone)]
struct Shared {
    owner: Owner,
    range: core::ops::Range<usize>,
}

impl<T: bytemuck::Pod> Buffer<T> {
    /// The elements in a range of an owner's bytes; `None` if the range is out of bounds or not
    /// aligned to elements.
    #[cfg(feature = "mmap")]
    pub(crate) fn shared(owner: &Owner, range: core::ops::Range<usize>) -> Option<Self> {
        let bytes = (**owner).as_ref().get(range.clone())?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Self(Repr::Shared(Shared { owner: owner.clone(), range })))
    }

    /// The elements, moved out if they are owned.
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self.0 {
            Repr::Owned(elements) => elements,
            #[cfg(feature = "mmap")]
            Repr::Shared(_) => self.to_vec(),
        }
    }

    /// Whether the elements lie in memory that is shared.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self.0, Repr::Owned(_))
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(elements: Vec<T>) -> Self {
        Self(Repr::Owned(elements))
    }
}

/// Shared elements are looked up on each call, so loops take the slice once, before they start.
impl<T: bytemuck::Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Repr::Owned(elements) => elements,
            #[cfg(feature = "mmap")]
            Repr::Shared(Shared { owner, range }) => {
                bytemuck::cast_slice(&(**owner).as_ref()[range.clone()])
            }
        }
    }
}

impl<T: Clone> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Repr::Owned(elements) => Repr::Owned(elements.clone()),
            #[cfg(feature = "mmap")]
            Repr::Shared(shared) => Repr::Shared(shared.clone()),
        })
    }
}

/// Equal when the elements are equal, owned or shared.
impl<T: bytemuck::Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: bytemuck::Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, feature = "mmap"))]
mod tests {
    use super::*;

    struct Heap(Vec<u64>);

    impl AsRef<[u8]> for Heap {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    impl Bytes for Heap {}

    #[test]
    fn shared_elements_lie_where_an_element_may() {
        let owner: Owner = alloc::sync::Arc::new(Heap(alloc::vec![0x3F80_0000_4000_0000; 2]));
        let floats = Buffer::<f32>::shared(&owner, 4..12).unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(*floats, [1.0, 2.0]);
        }
        assert!(floats.is_shared() && floats.clone().is_shared());
        assert_eq!(floats.as_ptr(), floats.clone().as_ptr());
        for range in [1..5, 0..5, 12..20] {
            assert!(Buffer::<f32>::shared(&owner, range).is_none());
        }
        assert!(Buffer::<u8>::shared(&owner, 1..5).is_some());
        drop(owner);
        assert_eq!(floats.clone().into_vec(), *floats);
    }
}
