//! Rows of codes or floats, and the order in which products with queries read them.

use super::parameters::Parameters;
use super::sizes::{PANEL, zeroed};
use crate::scheme::KeyValueScheme;
use alloc::vec::Vec;

/// The same dimensions of all positions of a panel, four bytes of each: a float, four codes of 8 bits, or
/// eight codes of 4 bits.
pub(super) type Step = [i32; PANEL];

/// The bytes of a cache line, on one of which the steps begin.
const CACHE_LINE: usize = 64;

/// For each head and panel its steps.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    /// The steps of a panel.
    steps: usize,
    /// The panels of a head.
    count: usize,
    words: Vec<i32>,
    /// The words before the steps. Not a vector of aligned steps, because zeroed pages for that are written.
    skipped: usize,
    pub(super) parameters: Parameters,
}

impl Panels {
    /// Room for `rows` rows of `dim` elements of each head, if there is enough memory.
    pub(super) fn new(
        scheme: KeyValueScheme,
        heads: usize,
        dim: usize,
        rows: usize,
    ) -> Option<Self> {
        let steps = match scheme {
            KeyValueScheme::F32 => dim,
            KeyValueScheme::Int8 => dim.div_ceil(4),
            KeyValueScheme::Int4 => dim.div_ceil(8),
        };
        let count = rows.div_ceil(PANEL);
        let len = heads.checked_mul(count)?.checked_mul(steps)?.checked_mul(PANEL)?;
        let words = zeroed::<i32>(len.checked_add(CACHE_LINE / size_of::<i32>())?)?;
        let skipped = words.as_ptr().align_offset(CACHE_LINE);
        let skipped = if skipped <= words.len() - len { skipped } else { 0 };
        let parameters = Parameters::new(scheme, heads, dim, rows)?;
        Some(Self { steps, count, words, skipped, parameters })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words) + self.parameters.bytes()
    }

    /// Where the steps of a panel begin, and their number of words.
    fn place(&self, head: usize, panel: usize) -> (usize, usize) {
        let words = self.steps * PANEL;
        (self.skipped + (head * self.count + panel) * words, words)
    }

    /// The steps of a panel.
    pub(super) fn panel(&self, head: usize, panel: usize) -> &[Step] {
        let (start, words) = self.place(head, panel);
        self.words[start..][..words].as_chunks().0
    }

    /// The steps of a panel.
    pub(super) fn panel_mut(&mut self, head: usize, panel: usize) -> &mut [Step] {
        let (start, words) = self.place(head, panel);
        self.words[start..][..words].as_chunks_mut().0
    }
}
