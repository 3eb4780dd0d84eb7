//! A checkpoint that another program has quantized, as one of tensors with codes or values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use quant::__private::element_count;
use quant::record::{RecordFormatError, RecordState, Recorder};
use quant::{RecordError, Tensor};

use super::component::{Component, Components, Place, Reader};
use super::config::Config;
use super::layout::Layout;
use super::recognize::{Found, may_have_any, recognize};
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, StateEntry, Stored};
use crate::format::Format;
use crate::in_memory::InMemory;
use crate::method::{Encoding, PreQuantized, PreQuantizedTensor, Refusal};
use crate::safetensors::SafetensorsRecorder;
use crate::source::{Sorted, Source, states_at};

/// The checkpoint, in which tensors that another program has quantized are entries: with their codes
/// where a scheme of this library has them exactly, and otherwise with their values. Those whose values
/// cannot be computed stay as they are, and their description says why.
pub(crate) fn import(inner: Checkpoint) -> Result<Checkpoint, RecordError> {
    let directory = inner.files().next().and_then(Path::parent);
    let config = match directory.filter(|_| inner.format() == Format::Safetensors) {
        Some(directory) => Config::in_directory(directory),
        None => Config::default(),
    };
    import_as(inner, config)
}

/// As `import`, from the bytes of a safetensors file and of its `config.json`.
///
/// # Errors
/// As for [`open`](crate::open()).
pub fn import_bytes(file: &[u8], config: &[u8]) -> Result<Checkpoint, RecordError> {
    let record = SafetensorsRecorder::default().load(&mut &*file, Some(file.len() as u64))?;
    let inner = Checkpoint::new(InMemory::new(Path::new("memory"), record));
    import_as(inner, Config::of_model(config))
}

fn import_as(checkpoint: Checkpoint, config: Config) -> Result<Checkpoint, RecordError> {
    let source = checkpoint.source();
    if !may_have_any(source, &config) {
        return Ok(checkpoint);
    }
    let components = Components::of(source);
    let mut layers = Layers::default();
    for found in recognize(&components, &config) {
        let layout = match name_taken(&found, &components) {
            Some(refusal) => Err(refusal),
            None => Layout::plan(&found, &config, Reader(source))?,
        };
        layers.add(&found, layout, Reader(source))?;
    }
    match PreQuantized::new(layers.described, config.method) {
        None => Ok(checkpoint),
        Some(description) => {
            let inner = checkpoint.into_source();
            Ok(Checkpoint::new(Imported::new(inner, layers.readable, description)))
        }
    }
}

/// Whether the file has another tensor of the name that the float tensor would have.
fn name_taken(found: &Found<'_>, components: &Components) -> Option<Refusal> {
    let other = components.get(found.id.as_str())?;
    let is_part = found.components().any(|part| part.id == other.id);
    (!is_part).then(|| Refusal::NameTaken { id: other.id.clone() })
}

/// The quantized tensors of a file.
#[derive(Default)]
struct Layers {
    described: Vec<PreQuantizedTensor>,
    readable: Vec<Layer>,
}

/// A tensor whose values can be computed.
struct Layer {
    entry: Entry,
    layout: Layout,
    parts: Vec<Place>,
}

impl Layers {
    fn add(
        &mut self,
        found: &Found<'_>,
        layout: Result<Layout, Refusal>,
        from: Reader<'_>,
    ) -> Result<(), RecordError> {
        let layout = layout.and_then(|layout| match element_count(&layout.shape()) {
            Some(_) => Ok(layout),
            None => Err(found.codes.misfit()),
        });
        let encoding = layout.as_ref().map_or(Encoding::new(found.method, None), Layout::encoding);
        let scheme = layout.as_ref().ok().map(|layout| layout.scheme(from)).transpose()?;
        self.described.push(PreQuantizedTensor {
            id: found.id.clone(),
            encoding,
            components: found.components().map(|part| part.id.clone()).collect(),
            refusal: layout.as_ref().err().cloned(),
            as_floats: scheme.and_then(Result::err),
        });
        if let Ok(layout) = layout {
            let bytes = found.components().map(|part| part.bytes).sum();
            let stored = match scheme {
                Some(Ok(scheme)) => Stored::Quantized(scheme),
                _ => Stored::PreQuantized(encoding),
            };
            let entry = Entry::new(found.id.clone(), layout.shape(), stored, bytes);
            let parts = found.components().map(Component::place).collect();
            self.readable.push(Layer { entry, layout, parts });
        }
        Ok(())
    }
}

/// A checkpoint some of whose tensors are computed from others.
struct Imported {
    inner: Box<dyn Source>,
    description: PreQuantized,
    entries: Vec<Entry>,
    values: Vec<Values>,
    /// The states that are not parts of a tensor, by their positions in `inner`.
    states: Vec<usize>,
}

/// Where the values of an entry come from.
enum Values {
    Inner(usize),
    Computed(Box<Layout>),
}

impl Imported {
    fn new(inner: Box<dyn Source>, layers: Vec<Layer>, description: PreQuantized) -> Self {
        let parts: HashSet<Place> =
            layers.iter().flat_map(|layer| layer.parts.iter().copied()).collect();
        let states = inner.state_entries().len();
        let states = (0..states).filter(|&state| !parts.contains(&Place::State(state))).collect();
        let mut all = Self { description, entries: vec![], values: vec![], states, inner };
        // A tensor takes the place of the first of its parts that is an entry, such as the scales.
        let first = |layer: &Layer| {
            layer.parts.iter().filter(|part| matches!(part, Place::Entry(_))).min().copied()
        };
        let mut by_place: HashMap<Option<Place>, Vec<Layer>> = HashMap::new();
        for layer in layers {
            by_place.entry(first(&layer)).or_default().push(layer);
        }
        for position in 0..all.inner.entries().len() {
            let place = Place::Entry(position);
            let computed = by_place.remove(&Some(place)).unwrap_or_default();
            computed.into_iter().for_each(|layer| all.add_computed(layer));
            if !parts.contains(&place) {
                all.entries.push(all.inner.entries()[position].clone());
                all.values.push(Values::Inner(position));
            }
        }
        // Those without a part that is an entry.
        let others = by_place.remove(&None).unwrap_or_default();
        others.into_iter().for_each(|layer| all.add_computed(layer));
        all
    }

    fn add_computed(&mut self, layer: Layer) {
        self.entries.push(layer.entry);
        self.values.push(Values::Computed(Box::new(layer.layout)));
    }
}

impl Source for Imported {
    fn format(&self) -> Format {
        self.inner.format()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.inner.metadata()
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn state_entries(&self) -> Vec<StateEntry> {
        states_at(&*self.inner, &self.states)
    }

    fn files(&self) -> Vec<&Path> {
        self.inner.files()
    }

    fn prequantized(&self) -> Option<&PreQuantized> {
        Some(&self.description)
    }

    fn read(&self, index: usize) -> Result<Tensor, RecordError> {
        self.read_into(index, Vec::new())
    }

    fn read_into(&self, index: usize, allocation: Vec<f32>) -> Result<Tensor, RecordError> {
        let Entry { id, shape, stored, .. } = &self.entries[index];
        let layout = match &self.values[index] {
            Values::Inner(inner) => return self.inner.read_into(*inner, allocation),
            Values::Computed(layout) => layout,
        };
        let from = Reader(&*self.inner);
        let tensor = match *stored {
            Stored::Quantized(scheme) => {
                layout.codes(from)?.into_tensor(shape, scheme).map(Tensor::from)
            }
            _ => Tensor::from_values(shape, layout.values(from)?),
        };
        Ok(tensor.map_err(|source| RecordFormatError::Tensor { id: id.clone(), source })?)
    }

    fn grain(&self, index: usize) -> Option<usize> {
        match self.values[index] {
            Values::Inner(inner) => self.inner.grain(inner),
            Values::Computed(_) => None,
        }
    }

    fn read_part(
        &self,
        index: usize,
        elements: Range<usize>,
        allocation: Vec<f32>,
    ) -> Result<Tensor, RecordError> {
        match self.values[index] {
            Values::Inner(inner) => self.inner.read_part(inner, elements, allocation),
            Values::Computed(_) => self.read_into(index, allocation),
        }
    }

    fn divides_state(&self, index: usize) -> bool {
        self.inner.divides_state(self.states[index])
    }

    fn state_part(&self, index: usize, bytes: Range<usize>) -> Result<Vec<u8>, RecordError> {
        self.inner.state_part(self.states[index], bytes)
    }

    fn read_sorted(&self, index: usize) -> Result<Option<Sorted>, RecordError> {
        let Values::Computed(layout) = &self.values[index] else { return Ok(None) };
        let Some((codes, scheme, order)) = layout.sorted(Reader(&*self.inner))? else {
            return Ok(None);
        };
        let Entry { id, shape, .. } = &self.entries[index];
        let error = |source| RecordFormatError::Tensor { id: id.clone(), source };
        let tensor = codes.into_tensor(shape, scheme).map_err(error)?.into();
        Ok(Some(Sorted { tensor, order }))
    }

    fn state(&self, index: usize) -> Result<RecordState, RecordError> {
        self.inner.state(self.states[index])
    }
}
