//! The parameters of a model in the order of their manifest.

use quant::Module;
use quant::ParamId;
use quant::RecordError;
use quant::module::{ModuleVisitor, ParamView, Walk};
use quant::record::{ManifestError, RecordEntry, RecordFormatError};

/// Calls `each` with every parameter of a model and its position among `entries`, which were declared
/// before.
///
/// # Errors
/// The first error of `each`, and [`ManifestError::Changed`] if the model has other parameters than
/// were declared.
pub(crate) fn for_each_param(
    model: &dyn Walk,
    entries: &[RecordEntry],
    each: impl FnMut(usize, ParamView<'_>) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let mut pass = Pass { entries, at: 0, each, result: Ok(()) };
    model.visit(&mut pass);
    pass.result?;
    match entries.get(pass.at) {
        Some(missing) => Err(ManifestError::Changed { id: missing.id.clone() }.into()),
        None => Ok(()),
    }
}

/// Checks that the storage of each parameter has as many values as its shape says.
///
/// # Errors
/// As for [`for_each_param`], and the first parameter whose storage has not.
pub(crate) fn check_values(model: &dyn Walk, entries: &[RecordEntry]) -> Result<(), RecordError> {
    for_each_param(model, entries, |at, param| {
        param.check_values().map_err(|source| {
            RecordFormatError::Tensor { id: entries[at].id.clone(), source }.into()
        })
    })
}

struct Pass<'a, F> {
    entries: &'a [RecordEntry],
    at: usize,
    each: F,
    result: Result<(), RecordError>,
}

impl<F: FnMut(usize, ParamView<'_>) -> Result<(), RecordError>> ModuleVisitor for Pass<'_, F> {
    fn visit_float(&mut self, id: ParamId, param: ParamView<'_>) {
        if self.result.is_err() {
            return;
        }
        self.result =
            if self.entries.get(self.at) == Some(&RecordEntry::of_param(id.clone(), param)) {
                (self.each)(self.at, param)
            } else {
                Err(ManifestError::Changed { id }.into())
            };
        self.at += 1;
    }
}
