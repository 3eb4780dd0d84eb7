//! Leaves that are not parameters.

use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;

use super::ParamId;

/// A leaf of a model that holds a state beside its parameters, such as an
/// [`ActivationQuantizer`](crate::activation::ActivationQuantizer).
///
/// A walk shows it by [`Walker::state`](super::Walker::state) and
/// [`WalkerMut::state`](super::WalkerMut::state). A record stores what [`save`](Self::save)
/// returns, under the path of the leaf; loading a record calls [`load`](Self::load).
///
/// ```
/// use quant::module::{StateLeaf, Walk, Walker, WalkerMut};
/// use quant::ParamId;
/// use quant::{BincodeRecorder, Module};
///
/// /// Counts the batches it has seen.
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl StateLeaf for Counter {
///     fn kind(&self) -> &str { "counter/1" }
///     fn save(&self) -> Option<Vec<u8>> { Some(self.0.to_le_bytes().to_vec()) }
///     fn load(&mut self, _path: &ParamId, data: Option<&[u8]>) -> Result<(), String> {
///         let data = data.ok_or("the count is missing")?;
///         self.0 = u64::from_le_bytes(data.try_into().map_err(|_| "a count has 8 bytes")?);
///         Ok(())
///     }
/// }
///
/// impl Walk for Counter {
///     fn walk(&self, walker: &mut Walker<'_>) { walker.state(self); }
///     fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) { walker.state(self); }
/// }
///
/// let bytes = Counter(7).save_bytes(&BincodeRecorder::default())?;
/// assert_eq!(Counter(0).load_bytes(&bytes, &BincodeRecorder::default())?.0, 7);
/// # Ok::<(), quant::RecordError>(())
/// ```
pub trait StateLeaf: Any {
    /// The name of the format of [`save`](Self::save), with its version: `activation/1`.
    fn kind(&self) -> &str;

    /// The state as bytes, or `None` if the leaf is in its initial state and stores nothing.
    fn save(&self) -> Option<Vec<u8>>;

    /// Takes the state that a record has for the leaf at `path`; `None` if the record has none.
    ///
    /// # Errors
    /// A sentence that says why `data` is not a valid state. It reaches the caller with the path.
    fn load(&mut self, path: &ParamId, data: Option<&[u8]>) -> Result<(), String>;

    /// Divides what the state says of each channel by its factor, such as the ceiling of a clipped ReLU
    /// whose input is divided by them; see [`rescale`](crate::channels::rescale). A trial changes nothing,
    /// and has the same result.
    ///
    /// # Errors
    /// A sentence that says why the state cannot follow. Unless implemented, no state can.
    fn divide_channels(&mut self, factors: &[f64], is_trial: bool) -> Result<(), String> {
        let _ = (factors, is_trial);
        Err("this state has nothing that belongs to channels".into())
    }
}

impl dyn StateLeaf {
    /// The leaf as a `T`, if it is one.
    pub fn downcast_ref<T: StateLeaf>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }

    /// The leaf as a `T` to be changed, if it is one.
    pub fn downcast_mut<T: StateLeaf>(&mut self) -> Option<&mut T> {
        (self as &mut dyn Any).downcast_mut()
    }
}
