//! What is derived from a parameter, kept beside it.

use core::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that were computed from a parameter, such as its weights packed for a kernel: at most
/// one of each type, made when first asked for, shared by clones, never saved.
///
/// Whoever changes the parameter has to begin a new cache.
#[derive(Clone, Default)]
pub(crate) struct Cache(Arc<Mutex<Vec<Arc<dyn Any + Send + Sync>>>>);

impl Cache {
    /// The value of type `T`, which `make` makes if there is none yet.
    pub(crate) fn get_or_make<T: Any + Send + Sync, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(found) = self.find() {
            return Ok(found);
        }
        // Made outside of the lock: it takes long, and may use the threads that wait for it. Two
        // threads may make the same at once; one of the results stays.
        let made: Arc<dyn Any + Send + Sync> = Arc::new(make()?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&made));
        Ok(made.downcast().unwrap_or_else(|_| unreachable!("it was made as this type")))
    }

    fn find<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find_map(|value| Arc::clone(value).downcast().ok())
    }
}
