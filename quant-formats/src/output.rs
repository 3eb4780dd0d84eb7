//! Writing what a job makes of each tensor of a checkpoint, piece by piece.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use quant::Tensor;
use quant::record::{LaterState, Manifest, RecordEntry};

use crate::checkpoint::Checkpoint;
use crate::create::create;
use crate::entry::{Entry, StateEntry, Stored};
use crate::equal::equal_tensors;
use crate::error::CheckpointError;
use crate::format::Format;
use crate::ggml::{GgufType, kind_of_tensor};
use crate::gguf::is_header_kind;
use crate::memory;
use crate::options::Options;
use crate::piece::{Item, Piece};
use crate::pipeline;
use crate::sink::{Next, Part};

/// Of what is copied, a piece has at least about so many elements, or bytes of a state.
const COPIED: usize = 1 << 16;

/// What a tensor becomes.
pub(crate) struct Target {
    pub(crate) form: Form,
    /// The number of elements at multiples of which the tensor can be divided.
    grain: Option<usize>,
    /// The memory that this takes.
    needs: u64,
    /// The memory that each piece needs besides.
    beside: u64,
}

/// How a tensor is written.
pub(crate) enum Form {
    Tensor(RecordEntry),
    /// Blocks, which are a state of the file.
    State(LaterState),
}

impl Target {
    /// The tensor as it is in the checkpoint: in blocks, or as a record stores it.
    pub(crate) fn copy(from: &Checkpoint, index: usize) -> Self {
        let entry = &from.entries()[index];
        let form = match entry.stored {
            Stored::Blocks(ty) => Form::blocks(entry, ty),
            _ => Form::Tensor(entry.to_record()),
        };
        Self { form, grain: copied(from.grain(index)), needs: memory::of_copy(entry), beside: 0 }
    }

    /// Another tensor, computed from the values.
    pub(crate) fn made(
        from: &Checkpoint,
        index: usize,
        to: RecordEntry,
        grain: Option<usize>,
    ) -> Self {
        let needs = memory::of_result(&from.entries()[index], to.byte_count());
        Self { form: Form::Tensor(to), grain, needs, beside: 0 }
    }

    /// Each piece needs this memory besides.
    pub(crate) fn beside(self, bytes: u64) -> Self {
        Self { beside: bytes, ..self }
    }

    pub(crate) fn byte_count(&self) -> u64 {
        match &self.form {
            Form::Tensor(entry) => entry.byte_count(),
            Form::State(state) => state.len,
        }
    }
}

impl Form {
    /// A tensor in blocks of this type.
    fn blocks(entry: &Entry, ty: GgufType) -> Self {
        let kind = kind_of_tensor(ty, &entry.shape);
        // Type and shape have been compared.
        let len = ty.byte_count(&entry.shape).unwrap_or(u64::MAX);
        Self::State(LaterState { id: entry.id.clone(), kind, len })
    }

    /// Whether another tensor is stored like this one.
    fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => (a.stored, &a.shape) == (b.stored, &b.shape),
            _ => false,
        }
    }

    fn next(&self) -> Next<'_> {
        match self {
            Self::Tensor(entry) => Next::Tensor(entry),
            Self::State(LaterState { id, len, .. }) => Next::State { id: id.as_str(), len: *len },
        }
    }
}

/// The grain of what is copied: a multiple of that of the source.
pub(crate) fn copied(grain: Option<usize>) -> Option<usize> {
    let grain = grain?;
    COPIED.div_ceil(grain).checked_mul(grain)
}

/// What a checkpoint becomes.
pub(crate) struct Output {
    targets: Vec<Target>,
    /// Targets that are other names of earlier ones, and those.
    aliases: Vec<(usize, usize)>,
    metadata: BTreeMap<String, String>,
}

impl Output {
    /// The tensors of a checkpoint become `targets`; its metadata is copied.
    pub(crate) fn of(from: &Checkpoint, targets: Vec<Target>) -> Self {
        Self { targets, aliases: Vec::new(), metadata: from.metadata().clone() }
    }

    /// As [`share_in_record`](Self::share_in_record) if `to` is a record.
    pub(crate) fn share(
        self,
        from: &Checkpoint,
        to: &Path,
        options: Options<'_>,
        same: impl Fn(usize, usize) -> bool,
    ) -> Result<Self, CheckpointError> {
        match Format::of_path(to) {
            Ok(Format::Record) => self.share_in_record(from, options, same),
            _ => Ok(self),
        }
    }

    /// Tensors that are equal, and become the `same`, are stored once, as in a record of one file.
    pub(crate) fn share_in_record(
        mut self,
        from: &Checkpoint,
        options: Options<'_>,
        same: impl Fn(usize, usize) -> bool,
    ) -> Result<Self, CheckpointError> {
        // Other names are in the metadata of a record, which is that of one file.
        if options.max_shard_size.is_some() {
            return Ok(self);
        }
        let bytes = |index: usize| self.targets[index].byte_count();
        let mut equal = equal_tensors(from, options)?;
        equal.retain(|&(index, of)| {
            same(index, of) && self.targets[index].form.is_as(&self.targets[of].form)
        });
        let all: u64 = (0..self.targets.len()).map(bytes).sum();
        let mut shared = 0;
        // A reader allows no more bytes under other names than are stored.
        equal.retain(|&(index, _)| {
            let more = shared + 2 * bytes(index) + 8 * from.entries()[index].shape.len() as u64;
            let fits = more <= all;
            shared = if fits { more } else { shared };
            fits
        });
        self.aliases = equal;
        Ok(self)
    }

    /// Targets that are other names of earlier ones, and those.
    pub(crate) fn aliases(&self) -> &[(usize, usize)] {
        &self.aliases
    }

    /// Gives a key of the metadata another value, if it has one.
    pub(crate) fn update(mut self, key: &str, value: impl ToString) -> Self {
        if let Some(old) = self.metadata.get_mut(key) {
            *old = value.to_string();
        }
        self
    }
}

/// What is written of a piece: a part of what its [`Target`] declares.
pub(crate) enum Made {
    Tensor(Tensor),
    Bytes(Vec<u8>),
}

impl Made {
    fn part(&self) -> Part<'_> {
        match self {
            Self::Tensor(tensor) => Part::Tensor(tensor),
            Self::Bytes(bytes) => Part::Bytes(bytes),
        }
    }
}

/// A tensor or a state of the checkpoint, by its position.
#[derive(Clone, Copy)]
enum Place {
    Tensor(usize),
    State(usize),
}

/// What is written, in the order of a record: tensors, states, and tensors in blocks.
struct Sequence {
    places: Vec<Place>,
    forms: Vec<Form>,
    items: Vec<Item>,
}

impl Sequence {
    /// Targets that are other names are left out. States before `first` are not written in pieces.
    fn new(
        from: &Checkpoint,
        targets: Vec<Target>,
        aliases: &[(usize, usize)],
        states: &[StateEntry],
        first: usize,
    ) -> Self {
        let aliases: HashSet<usize> = aliases.iter().map(|&(index, _)| index).collect();
        let mut all = Self { places: vec![], forms: vec![], items: vec![] };
        let is_tensor = |(_, target): &(usize, Target)| matches!(target.form, Form::Tensor(_));
        let (tensors, blocks): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .enumerate()
            .filter(|(index, _)| !aliases.contains(index))
            .partition(is_tensor);
        let push_tensor = |all: &mut Self, (index, target): (usize, Target)| {
            let Target { form, grain, needs, beside } = target;
            let item = Item::tensor(&from.entries()[index], grain, needs).beside(beside);
            all.push(Place::Tensor(index), form, item);
        };
        tensors.into_iter().for_each(|tensor| push_tensor(&mut all, tensor));
        for (index, state) in states.iter().enumerate().skip(first) {
            let grain = copied(from.divides_state(index).then_some(1));
            let StateEntry { id, kind, bytes: len } = state.clone();
            let form = Form::State(LaterState { id, kind, len });
            all.push(Place::State(index), form, Item::state(state, grain));
        }
        blocks.into_iter().for_each(|tensor| push_tensor(&mut all, tensor));
        all
    }

    fn push(&mut self, place: Place, form: Form, item: Item) {
        self.places.push(place);
        self.forms.push(form);
        self.items.push(item);
    }

    fn manifest(&self) -> Manifest {
        let (mut tensors, mut later) = (Vec::new(), Vec::new());
        for form in &self.forms {
            match form {
                Form::Tensor(entry) => tensors.push(entry.clone()),
                Form::State(state) => later.push(state.clone()),
            }
        }
        Manifest::new(tensors).later_states(later)
    }
}

/// The number of states that are read before anything is written: JSON has states before tensors,
/// and the header of a GGUF file depends on that of its source.
fn read_at_once(states: &[StateEntry], to: &Path) -> usize {
    match Format::of_path(to) {
        Ok(Format::Json) => states.len(),
        Ok(Format::Gguf) => {
            states.iter().rposition(|state| is_header_kind(&state.kind)).map_or(0, |at| at + 1)
        }
        _ => 0,
    }
}

/// Writes what `each` makes of each piece of a tensor, and passes `done` the rest of its result. The
/// pieces are those of tensors by their positions in the checkpoint. States are copied.
pub(crate) fn write<R: Send>(
    from: &Checkpoint,
    output: Output,
    to: &Path,
    options: Options<'_>,
    each: impl Fn(&Piece) -> Result<(R, Made), CheckpointError> + Sync,
    mut done: impl FnMut(&Piece, R),
) -> Result<(), CheckpointError> {
    let Output { targets, aliases, metadata } = output;
    let states = from.state_entries();
    let first = read_at_once(&states, to);
    let held = states[..first].iter().fold(from.held(), |sum, state| sum + state.bytes);
    let mut sequence = Sequence::new(from, targets, &aliases, &states, first);
    if matches!(Format::of_path(to), Ok(Format::Json)) {
        // Scales come before codes there.
        sequence.items.iter_mut().for_each(|item| item.grain = None);
    }
    let Sequence { places, forms, items } = &sequence;
    pipeline::check(items, held, options)?;

    let read = (0..first).map(|state| from.state(state)).collect::<Result<Vec<_>, _>>()?;
    let id = |index: usize| from.entries()[index].id.clone();
    let manifest = sequence.manifest().metadata(metadata).states(read);
    let manifest =
        aliases.iter().fold(manifest, |manifest, &(index, of)| manifest.alias(id(index), id(of)));
    let mut writer = create(to, manifest.max_shard_size(options.max_shard_size))?;
    let each = |piece: &Piece| match places[piece.item] {
        Place::Tensor(index) => each(&piece.of(index)).map(|(result, made)| (Some(result), made)),
        Place::State(index) => {
            Ok((None, Made::Bytes(from.state_part(index, piece.range.clone())?)))
        }
    };
    pipeline::run(items, held, options, each, |piece, (result, made)| {
        let sink = writer.sink();
        if piece.is_first() {
            sink.begin(forms[piece.item].next())?;
        }
        sink.part(made.part())?;
        if piece.is_last {
            sink.end()?;
        }
        if let (Place::Tensor(index), Some(result)) = (places[piece.item], result) {
            done(&piece.of(index), result);
        }
        Ok(())
    })?;
    Ok(writer.finish()?)
}
