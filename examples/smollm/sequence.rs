//! Texts that a model continues, and the memory that it needs.

use ndarray::ArrayD;
use quant::kernel::{KeyValueCache, RopeAngles};

use crate::SmolError;

/// The tokens so far of one text: keys and values of each layer.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub(crate) caches: Vec<KeyValueCache>,
    pub(crate) capacity: usize,
}

/// New tokens of a sequence.
#[derive(Debug)]
pub struct Step<'a> {
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// The sequence that they continue.
    pub sequence: &'a mut Sequence,
}

/// Memory that forward passes reuse. Once it has grown to the largest pass, nothing is allocated.
#[derive(Debug, Default)]
pub struct Buffers {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) angles: RopeAngles,
    pub(crate) hidden: ArrayD<f32>,
    pub(crate) normed: ArrayD<f32>,
    /// Queries, keys and values.
    pub(crate) qkv: [ArrayD<f32>; 3],
    /// Gates, and what they let through.
    pub(crate) inner: [ArrayD<f32>; 2],
    pub(crate) logits: ArrayD<f32>,
}

impl Sequence {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.caches.first().map_or(0, KeyValueCache::len)
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most tokens.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.caches.iter_mut().for_each(|cache| cache.truncate(len));
    }

    /// The bytes of memory that keys and values take.
    pub fn bytes(&self) -> usize {
        self.caches.iter().map(KeyValueCache::bytes).sum()
    }
}

impl Buffers {
    /// Takes the tokens of a pass, and their positions.
    pub(crate) fn start(&mut self, steps: &[Step<'_>]) -> Result<(), SmolError> {
        self.tokens.clear();
        self.positions.clear();
        for Step { tokens, sequence } in steps {
            let (start, capacity) = (sequence.len(), sequence.capacity);
            let end = start + tokens.len();
            match tokens.len() {
                0 => return Err(SmolError::Empty),
                _ if end > capacity => return Err(SmolError::Full { tokens: end, capacity }),
                _ => {}
            }
            self.tokens.extend(*tokens);
            self.positions.extend(start as u32..end as u32);
        }
        if steps.is_empty() { Err(SmolError::Empty) } else { Ok(()) }
    }
}
