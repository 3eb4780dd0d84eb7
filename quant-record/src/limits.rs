//! What this reader takes. `quant` takes more.
//!
//! Names must be distinct, and there is no memory for a table of them. So each is compared with all
//! others, and the limits make that a time in proportion to the file: the header is read at most about
//! as often as there are entries.

/// The greatest number of pairs of metadata, of tensors and of states.
pub const ENTRY_LIMIT: usize = 1024;

/// The greatest length of a header in bytes.
pub const HEADER_LIMIT: usize = 1 << 20;

/// The greatest number of axes of a tensor, whose extents are copied.
pub const RANK_LIMIT: usize = 8;
