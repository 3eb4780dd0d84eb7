//! The header of a GGUF file as a state, with which metadata and the order of tensors travel through
//! other formats and come back as they were.

use quant::RecordError;
use quant::record::RecordState;

use super::error::GgufError;
use super::header::Header;
use crate::entry::StateEntry;

/// The name of the state.
const NAME: &str = "gguf.header";

/// The kind of the state: the bytes of a file up to the padding before its first tensor.
const KIND: &str = "gguf/header";

pub(super) fn header_entry(header: &Header) -> StateEntry {
    StateEntry::new(NAME.into(), KIND.into(), header.bytes.len() as u64)
}

pub(super) fn header_state(header: &Header) -> RecordState {
    RecordState { id: NAME.into(), kind: KIND.into(), data: header.bytes.clone() }
}

/// Whether a state is a header.
pub(super) fn is_header(state: &RecordState) -> bool {
    is_header_kind(&state.kind)
}

/// Whether a state of this kind is a header.
pub(crate) fn is_header_kind(kind: &str) -> bool {
    kind == KIND
}

/// The header in a state that [is one](is_header).
pub(super) fn header_of(state: &RecordState) -> Result<Header, RecordError> {
    let header = Header::read_without_positions(&mut &*state.data, None)?;
    let (len, expected) = (state.data.len() as u64, header.bytes.len() as u64);
    if len != expected {
        return Err(GgufError::HeaderState { len, expected }.into());
    }
    Ok(header)
}
