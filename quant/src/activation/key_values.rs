//! The leaf that attention has beside its layers.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::module::{
    ParamId, Site, StateLeaf, Walk, Walker, WalkerMut, for_each_state, for_each_state_mut,
};
use crate::scheme::KeyValueScheme;

/// The name of the format in records.
pub(crate) const RECORD_KIND: &str = "key-values/1";

/// How attention keeps the keys and values of earlier tokens: a state leaf beside the layers that make
/// them, saved with them.
///
/// A new one keeps floats. [`Module::quantize`](crate::Module::quantize) gives it the scheme that a recipe
/// has for its path; the caches that are made afterwards follow it.
///
/// ```
/// use quant::activation::KeyValueQuantizer;
/// use quant::scheme::KeyValueScheme;
/// use quant::{Module, Recipe};
///
/// let recipe = Recipe::new().keys_values(KeyValueScheme::Int8);
/// let keys_values = KeyValueQuantizer::new().quantize(&recipe)?;
/// assert_eq!(keys_values.scheme(), KeyValueScheme::Int8);
/// # Ok::<(), quant::QuantizeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueQuantizer(KeyValueScheme);

impl KeyValueQuantizer {
    /// One that keeps floats.
    pub const fn new() -> Self {
        Self(KeyValueScheme::F32)
    }

    /// The scheme of new caches.
    pub const fn scheme(self) -> KeyValueScheme {
        self.0
    }

    pub(crate) fn set(&mut self, scheme: KeyValueScheme) {
        self.0 = scheme;
    }
}

/// A quantizer with this scheme.
impl From<KeyValueScheme> for KeyValueQuantizer {
    fn from(scheme: KeyValueScheme) -> Self {
        Self(scheme)
    }
}

impl StateLeaf for KeyValueQuantizer {
    fn kind(&self) -> &str {
        RECORD_KIND
    }

    /// The name of the scheme; nothing for floats.
    fn save(&self) -> Option<Vec<u8>> {
        (self.0 != KeyValueScheme::F32).then(|| self.0.name().into())
    }

    fn load(&mut self, _path: &ParamId, data: Option<&[u8]>) -> Result<(), String> {
        *self = match data {
            None => Self::new(),
            Some(data) => {
                let name = core::str::from_utf8(data).map_err(|_| "the scheme is not UTF-8")?;
                Self(name.parse().map_err(|error: crate::scheme::NameError| error.to_string())?)
            }
        };
        Ok(())
    }
}

impl Walk for KeyValueQuantizer {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.state(self);
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.state(self);
    }
}

/// The paths of the quantizers of keys and values.
pub(crate) fn key_value_paths(module: &(impl Walk + ?Sized)) -> Vec<ParamId> {
    let mut paths = Vec::new();
    for_each_state(module, |Site { path, .. }, leaf| {
        if leaf.downcast_ref::<KeyValueQuantizer>().is_some() {
            paths.push(path.into());
        }
    });
    paths
}

/// Gives each quantizer of keys and values the scheme that `scheme_of` has for its path, if any.
pub(crate) fn set_key_values(
    module: &mut (impl Walk + ?Sized),
    mut scheme_of: impl FnMut(&str) -> Option<KeyValueScheme>,
) {
    for_each_state_mut(module, |Site { path, .. }, leaf| {
        if let (Some(leaf), Some(scheme)) = (leaf.downcast_mut(), scheme_of(path)) {
            KeyValueQuantizer::set(leaf, scheme);
        }
    });
}
