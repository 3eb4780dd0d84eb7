//! An open file of second moments.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use quant::__private::parent_of;
use quant::moments::{LayerMoments, MomentSource, MomentsError, MomentsInfo, SecondMoments};
use quant::{ParamId, RecordError};

use super::error::MomentsFileError;
use super::imatrix::{self, Diagonal, Imatrix};
use super::ours::{self, Stored};
use crate::checkpoint::Checkpoint;
use crate::open::open;
use crate::text::{chain, shorten};

/// An open file of second moments: one that [`write_moments`](crate::write_moments) wrote, or an importance
/// matrix of llama.cpp in GGUF, which has the diagonals alone.
///
/// The moments of a layer are read when they are needed, so that a model whose matrices do not fit into
/// memory can be quantized one layer at a time.
///
/// ```
/// use quant::moments::{LayerMoments, SecondMoments};
/// use quant::{BincodeRecorder, Module, Param, Recipe};
/// use quant_formats::{MomentsFile, Options};
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-moments-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let (model, path) = (directory.join("model.quant"), directory.join("moments.safetensors"));
/// # let output = directory.join("int4.quant");
/// vec![Param::new([[0.5f32, -0.25], [1.0, 0.75]])].save_file(&model, &BincodeRecorder::default())?;
/// let mut inputs = LayerMoments::for_inputs_up_to(2.0, 2)?;
/// inputs.add(&[1.0, 2.0, -0.5, 1.5])?;
/// let mut moments = SecondMoments::new();
/// moments.insert("0", inputs);
/// quant_formats::write_moments(&moments, &path)?;
///
/// let recipe = Recipe::new()
///     .scheme("per-channel-symmetric-int4".parse()?)
///     .calibration("gptq".parse()?)
///     .moments(MomentsFile::open(&path)?);
/// quant_formats::quantize(&quant_formats::open(&model)?, &recipe, &output, Options::default())?;
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MomentsFile {
    file: Checkpoint,
    layers: BTreeMap<ParamId, Place>,
    experts: Vec<ParamId>,
}

/// Where the moments of a layer are.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The position of the state.
    Ours(usize, Stored),
    Imatrix(Diagonal),
}

impl MomentsFile {
    /// Opens a file. Its description of the layers has been checked then, and no sums have been read.
    ///
    /// # Errors
    /// The file cannot be read, it has no second moments, or their description is invalid
    /// ([`MomentsFileError`] as the source of [`RecordError::Recorder`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordError> {
        let path = path.as_ref();
        Self::of(open(path)?).map_err(|error| RecordError::from(error).in_file(path))
    }

    fn of(file: Checkpoint) -> Result<Self, MomentsFileError> {
        match file.metadata().get(ours::KEY).map(String::as_str) {
            Some(ours::VERSION) => {
                let layers = file.state_entries().into_iter().enumerate().map(|(index, state)| {
                    let description = file.metadata().get(&ours::key_of(state.id.as_str()));
                    Ok((state.id.clone(), Place::Ours(index, Stored::read(&state, description)?)))
                });
                let layers = layers.collect::<Result<_, MomentsFileError>>()?;
                Ok(Self { file, layers, experts: Vec::new() })
            }
            Some(version) => Err(MomentsFileError::Version { version: shorten(version) }),
            None => {
                let Some(Imatrix { weights, experts }) = imatrix::find(&file)? else {
                    return Err(MomentsFileError::Other);
                };
                let place = |(id, diagonal)| (id, Place::Imatrix(diagonal));
                Ok(Self { file, layers: weights.into_iter().map(place).collect(), experts })
            }
        }
    }

    /// The layers or weights that have moments, in the order of their paths.
    pub fn layers(&self) -> impl Iterator<Item = &ParamId> {
        self.layers.keys()
    }

    /// The weights of experts, of which an importance matrix has a diagonal for each. They are not used.
    pub fn experts(&self) -> &[ParamId] {
        &self.experts
    }

    /// The layer or weight whose moments are those for a parameter, if there are any.
    pub fn layer_for(&self, id: &ParamId) -> Option<&ParamId> {
        self.find(id).map(|(layer, _)| layer)
    }

    fn find(&self, id: &ParamId) -> Option<(&ParamId, Place)> {
        let found = self.layers.get_key_value(id);
        let found = found.or_else(|| self.layers.get_key_value(parent_of(id.as_str())));
        found.map(|(layer, place)| (layer, *place))
    }

    /// Reads the moments of all layers.
    ///
    /// # Errors
    /// The file cannot be read, or the sums of a layer are invalid.
    pub fn read_all(&self) -> Result<SecondMoments, RecordError> {
        let mut all = SecondMoments::new();
        for (id, place) in &self.layers {
            all.insert(id.clone(), self.read(id, *place)?);
        }
        Ok(all)
    }

    fn read(&self, id: &ParamId, place: Place) -> Result<LayerMoments, RecordError> {
        let made = match place {
            Place::Ours(index, stored) => stored.decode(&self.file.state(index)?.data),
            Place::Imatrix(diagonal) => diagonal.read(&self.file)?,
        };
        made.map_err(|source| {
            let error = MomentsFileError::Moments { id: id.clone(), source };
            let path = self.file.files().next().unwrap_or_else(|| Path::new(""));
            RecordError::from(error).in_file(path)
        })
    }
}

impl MomentSource for MomentsFile {
    fn describe(&self, id: &ParamId) -> Option<MomentsInfo> {
        self.find(id).map(|(_, place)| match place {
            Place::Ours(_, stored) => stored.info(),
            Place::Imatrix(diagonal) => {
                MomentsInfo { columns: diagonal.columns, has_matrix: false }
            }
        })
    }

    fn load(&self, id: &ParamId) -> Result<Option<Arc<LayerMoments>>, MomentsError> {
        let Some((layer, place)) = self.find(id) else { return Ok(None) };
        match self.read(layer, place) {
            Ok(moments) => Ok(Some(Arc::new(moments))),
            Err(error) => Err(MomentsError::Unreadable { reason: chain(&error) }),
        }
    }
}

impl fmt::Debug for MomentsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MomentsFile").field("layers", &self.layers).finish_non_exhaustive()
    }
}
