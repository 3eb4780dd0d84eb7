//! The keys and values of a sequence.

use super::error::AttentionError;
use super::panels::Panels;
use super::parameters::Parameters;
use super::sizes::{BLOCK, PANEL, zeroed};
use crate::scheme::KeyValueScheme;
use alloc::vec::Vec;

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
/// cache.append(kernel, &[1.0, 0.0, 0.0, 1.0], &[100.0, 0.0, 0.0, 100.0])?;
/// let mut out = [0.0; 4];
/// kernel.attention(&[0.0, 0.0, 0.0, 0.0], 1, &cache, &mut out, &mut scratch)?;
/// for (value, exact) in out.iter().zip([100.0, 0.0, 50.0, 50.0]) {
///     assert!((value - exact).abs() < 0.1);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyValueCache {
    pub(super) shape: KeyValueShape,
    scheme: KeyValueScheme,
    pub(super) len: usize,
    pub(super) keys: Panels,
    /// For each panel of 4-bit keys, as a row of 8-bit codes, what is subtracted from them.
    pub(super) centers: Panels,
    /// For each head and position the codes of a row of values.
    pub(super) codes: Vec<u8>,
    /// For each head and position a row of values, if they are not quantized.
    pub(super) floats: Vec<f32>,
    /// Those of values.
    pub(super) parameters: Parameters,
    /// A row of keys or values that is being quantized.
    pub(super) turned: Vec<f32>,
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
        Self::reserved(shape, scheme).ok_or(AttentionError::Memory { capacity })
    }

    /// With memory for all tokens, if there is enough.
    fn reserved(shape: KeyValueShape, scheme: KeyValueScheme) -> Option<Self> {
        let KeyValueShape { heads, head_dim, capacity } = shape;
        let rows = heads.checked_mul(capacity)?;
        let (codes, floats) = match scheme {
            KeyValueScheme::F32 => (0, head_dim),
            KeyValueScheme::Int8 | KeyValueScheme::Int4 => (row_bytes(scheme, head_dim), 0),
        };
        let centers = if scheme == KeyValueScheme::Int4 { capacity.div_ceil(PANEL) } else { 0 };
        Some(Self {
            shape,
            scheme,
            len: 0,
            keys: Panels::new(scheme, heads, head_dim, capacity)?,
            centers: Panels::new(KeyValueScheme::Int8, heads, head_dim, centers)?,
            codes: zeroed(rows.checked_mul(codes)?)?,
            floats: zeroed(rows.checked_mul(floats)?)?,
            parameters: Parameters::new(scheme, heads, head_dim, capacity)?,
            turned: zeroed(head_dim)?,
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
        self.keys.bytes()
            + self.centers.bytes()
            + self.codes.len()
            + size_of_val(&*self.floats)
            + self.parameters.bytes()
            + size_of_val(&*self.turned)
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

    /// Bytes of a row of codes of values.
    pub(super) fn row_bytes(&self) -> usize {
        row_bytes(self.scheme, self.shape.head_dim)
    }
}

/// Bytes of a row of codes.
fn row_bytes(scheme: KeyValueScheme, head_dim: usize) -> usize {
    match scheme {
        KeyValueScheme::Int4 => head_dim.div_ceil(BLOCK) * (BLOCK / 2),
        _ => head_dim,
    }
}
