//! Keys and values, and the order in which they lie in memory.

use super::error::AttentionError;
use crate::scheme::KeyValueScheme;
use alloc::vec::Vec;
use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_vec;

/// Positions of a panel of keys.
pub(super) const PANEL: usize = 32;

/// The same dimensions of all positions of a panel, four bytes of each: a float, four codes of 8 bits, or
/// eight codes of 4 bits.
pub(super) type Step = [i32; PANEL];

/// The bytes of a cache line, on one of which the keys begin.
const CACHE_LINE: usize = 64;

/// Dimensions of a head that share a scale at 4 bits.
pub(super) const BLOCK: usize = 32;

/// The most dimensions of a head: sums of products of 8-bit codes fit i32.
const MOST_DIMENSIONS: usize = 1 << 16;

/// The sizes of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyValueShape {
    /// The number of heads of keys, and of values.
    pub heads: usize,
    /// The number of dimensions of a head.
    pub head_dim: usize,
    /// The most tokens.
    pub capacity: usize,
}

/// The keys and values of the tokens so far, in one layer and of one sequence.
///
/// They are quantized once, when they are appended, and can be read by every kernel. Memory for all
/// tokens is reserved by [`KeyValueCache::new`]; afterwards nothing is allocated. (Systems that hand out
/// zeroed pages when they are first used, as Linux does, need no more than the tokens so far take.)
///
/// ```
/// use quant_kernels::scheme::KeyValueScheme;
/// use quant_kernels::{AttentionScratch, Kernel, KeyValueCache, KeyValueShape};
///
/// let kernel = Kernel::current();
/// let shape = KeyValueShape { heads: 1, head_dim: 2, capacity: 16 };
/// let mut cache = KeyValueCache::new(shape, KeyValueScheme::Int8)?;
/// let mut scratch = AttentionScratch::new();
/// // Two tokens, the first of which sees itself alone.
/// cache.append(kernel, &[1.0, 0.0, 0.0, 1.0], &[127.0, 0.0, 0.0, 127.0])?;
/// let mut out = [0.0; 4];
/// kernel.attention(&[0.0, 0.0, 0.0, 0.0], 1, &cache, &mut out, &mut scratch)?;
/// assert_eq!(out, [127.0, 0.0, 63.5, 63.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    pub(super) shape: KeyValueShape,
    scheme: KeyValueScheme,
    pub(super) len: usize,
    /// For each head and panel its steps.
    keys: Vec<i32>,
    /// The words before the keys. Not a vector of aligned steps, because zeroed pages for that are written.
    skipped: usize,
    /// For each head and position a row of codes.
    pub(super) codes: Vec<u8>,
    /// For each head and position a row of floats, if they are not quantized.
    pub(super) floats: Vec<f32>,
    pub(super) key_parameters: Parameters,
    pub(super) value_parameters: Parameters,
}

/// Scales and zero points: for each head and block of dimensions, one for each position.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    /// For 8 bits.
    pub(super) scales: Vec<f32>,
    /// For 4 bits, in half precision.
    pub(super) halves: Vec<u16>,
    /// The zero points of unsigned codes.
    pub(super) zeros: Vec<u8>,
}

impl KeyValueCache {
    /// An empty cache.
    ///
    /// # Errors
    /// - There are no heads, or their dimensions are none or more than 65536.
    /// - There is not enough memory.
    pub fn new(shape: KeyValueShape, scheme: KeyValueScheme) -> Result<Self, AttentionError> {
        let KeyValueShape { heads, head_dim, capacity } = shape;
        if heads == 0 || head_dim == 0 || head_dim > MOST_DIMENSIONS {
            return Err(AttentionError::Shape { heads, head_dim });
        }
        let cache = Self {
            shape,
            scheme,
            len: 0,
            keys: Vec::new(),
            skipped: 0,
            codes: Vec::new(),
            floats: Vec::new(),
            key_parameters: Parameters::EMPTY,
            value_parameters: Parameters::EMPTY,
        };
        cache.reserved().ok_or(AttentionError::Memory { capacity })
    }

    /// With memory for all tokens, if there is enough.
    fn reserved(self) -> Option<Self> {
        let KeyValueShape { heads, head_dim, capacity } = self.shape;
        let rows = heads.checked_mul(capacity)?;
        let padded = heads.checked_mul(capacity.checked_next_multiple_of(PANEL)?)?;
        let words = padded.checked_mul(self.steps())?;
        let keys = zeroed::<i32>(words.checked_add(CACHE_LINE / size_of::<i32>())?)?;
        let skipped = keys.as_ptr().align_offset(CACHE_LINE);
        let (codes, floats) = match self.scheme {
            KeyValueScheme::F32 => (0, head_dim),
            KeyValueScheme::Int8 | KeyValueScheme::Int4 => (self.row_bytes(), 0),
        };
        Some(Self {
            skipped: if skipped <= keys.len() - words { skipped } else { 0 },
            keys,
            codes: zeroed(rows.checked_mul(codes)?)?,
            floats: zeroed(rows.checked_mul(floats)?)?,
            key_parameters: Parameters::new(self.scheme, padded.checked_mul(self.blocks())?)?,
            value_parameters: Parameters::new(self.scheme, padded.checked_mul(self.blocks())?)?,
            ..self
        })
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most tokens.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// The sizes.
    pub fn shape(&self) -> KeyValueShape {
        self.shape
    }

    /// How keys and values are kept.
    pub fn scheme(&self) -> KeyValueScheme {
        self.scheme
    }

    /// The bytes of memory that are reserved.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.keys)
            + self.codes.len()
            + size_of_val(&*self.floats)
            + self.key_parameters.bytes()
            + self.value_parameters.bytes()
    }

    /// Forgets the tokens from position `len` on; does nothing if there are no more than `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets all tokens, and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The elements of a row of all heads.
    pub(super) fn row(&self) -> usize {
        // `new` has multiplied more.
        self.shape.heads * self.shape.head_dim
    }

    /// The steps of a panel.
    pub(super) fn steps(&self) -> usize {
        match self.scheme {
            KeyValueScheme::F32 => self.shape.head_dim,
            KeyValueScheme::Int8 => self.shape.head_dim.div_ceil(4),
            KeyValueScheme::Int4 => self.shape.head_dim.div_ceil(8),
        }
    }

    /// Bytes of a row of codes of values.
    pub(super) fn row_bytes(&self) -> usize {
        match self.scheme {
            KeyValueScheme::Int4 => self.shape.head_dim.div_ceil(BLOCK) * (BLOCK / 2),
            _ => self.shape.head_dim,
        }
    }

    /// Blocks of dimensions with a scale each.
    pub(super) fn blocks(&self) -> usize {
        match self.scheme {
            KeyValueScheme::Int4 => self.shape.head_dim.div_ceil(BLOCK),
            _ => 1,
        }
    }

    /// The panels of a head.
    pub(super) fn panels(&self) -> usize {
        self.shape.capacity.div_ceil(PANEL)
    }

    /// Where the keys of a panel begin, and their number of words.
    fn panel_at(&self, head: usize, panel: usize) -> (usize, usize) {
        let words = self.steps() * PANEL;
        (self.skipped + (head * self.panels() + panel) * words, words)
    }

    /// The keys of a panel.
    pub(super) fn panel(&self, head: usize, panel: usize) -> &[Step] {
        let (start, words) = self.panel_at(head, panel);
        self.keys[start..][..words].as_chunks().0
    }

    /// The keys of a panel.
    pub(super) fn panel_mut(&mut self, head: usize, panel: usize) -> &mut [Step] {
        let (start, words) = self.panel_at(head, panel);
        self.keys[start..][..words].as_chunks_mut().0
    }

    /// Where the scales and zero points of a block begin.
    #[inline(always)]
    pub(super) fn parameters_at(&self, head: usize, block: usize) -> usize {
        (head * self.blocks() + block) * self.panels() * PANEL
    }
}

impl Parameters {
    const EMPTY: Self = Self { scales: Vec::new(), halves: Vec::new(), zeros: Vec::new() };

    fn new(scheme: KeyValueScheme, count: usize) -> Option<Self> {
        let count_if = |used: bool| if used { count } else { 0 };
        let four = scheme == KeyValueScheme::Int4;
        Some(Self {
            scales: zeroed(count_if(scheme == KeyValueScheme::Int8))?,
            halves: zeroed(count_if(four))?,
            zeros: zeroed(count_if(four))?,
        })
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.scales) + size_of_val(&*self.halves) + self.zeros.len()
    }
}

/// Zeros, in pages that the system hands out when they are first used.
fn zeroed<T: Zeroable>(len: usize) -> Option<Vec<T>> {
    try_zeroed_vec(len).ok()
}
