//! What is computed from a parameter and kept beside it.

use core::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that were computed from a parameter, such as its weights packed for a kernel: at most
/// one of each type.
///
/// A value is made when it is first asked for. Clones of the parameter share it, it is never
/// saved, and it is dropped when the parameter changes.
///
/// ```
/// use quant::Param;
///
/// let param = Param::new([1.0f32, -3.0]);
/// let sum = || Ok::<f32, String>(param.value().iter().sum());
/// assert_eq!(*param.cache().get_or_make(sum)?, -2.0);
/// // Made once: the second closure is not called.
/// assert_eq!(*param.cache().get_or_make(|| Err::<f32, _>("again".to_owned()))?, -2.0);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Default)]
pub struct Cache(Arc<Mutex<Vec<Arc<dyn Any + Send + Sync>>>>);

impl Cache {
    /// The value of type `T`; `make` makes it if there is none yet.
    ///
    /// Two threads that ask at the same time may both call `make`; one of the values is kept, and
    /// both threads get that one.
    ///
    /// # Errors
    /// The error of `make`. Nothing is kept then.
    pub fn get_or_make<T: Any + Send + Sync, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(found) = self.find() {
            return Ok(found);
        }
        // Made outside of the lock: `make` may take long, and may run on a pool whose other
        // threads wait for the lock.
        let made = Arc::new(make()?);
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = find(&values) {
            return Ok(first);
        }
        values.push(Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        Ok(made)
    }

    fn find<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        find(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn find<T: Any + Send + Sync>(values: &[Arc<dyn Any + Send + Sync>]) -> Option<Arc<T>> {
    values.iter().find_map(|value| Arc::clone(value).downcast().ok())
}
