//! Writing second moments.

use std::path::Path;

use quant::RecordError;
use quant::moments::SecondMoments;
use quant::record::{LaterState, Manifest};

use super::error::MomentsFileError;
use super::ours::{self, Stored};
use crate::create::create;

/// Writes second moments to a `.safetensors` file, which [`MomentsFile::open`](crate::MomentsFile::open) and
/// the option `--moments` of the command line read.
///
/// Each layer is a tensor of its name: the integer sums of the lower triangle, row by row, in units of
/// `4^exponent`, or the sums of squares alone, in double precision. The metadata has the number of rows and
/// the exponent.
///
/// The path keeps its old content, or none, until all is written.
///
/// # Errors
/// There are no moments, or the file cannot be written.
pub fn write_moments(moments: &SecondMoments, path: impl AsRef<Path>) -> Result<(), RecordError> {
    let path = path.as_ref();
    if moments.iter().next().is_none() {
        return Err(RecordError::from(MomentsFileError::Empty).in_file(path));
    }
    let mut manifest = Manifest::new([]);
    manifest.metadata.insert(ours::KEY.into(), ours::VERSION.into());
    let mut states = Vec::new();
    for (id, layer) in moments.iter() {
        let stored = Stored::of(layer);
        manifest.metadata.insert(ours::key_of(id.as_str()), stored.description());
        states.push(LaterState { id: id.clone(), kind: stored.kind(), len: stored.len() });
    }
    let mut writer = create(path, manifest.later_states(states))?;
    for (id, layer) in moments.iter() {
        writer.write_state(id.as_str(), &ours::encode(layer))?;
    }
    writer.finish()
}
