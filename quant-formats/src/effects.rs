//! From the effects of quantization on pieces to a plan.

use std::collections::BTreeMap;
use std::mem;

use quant::__private::{Decided, Effect};
use quant::Plan;
use quant::quantize::{PlannedParam, Reason};

use crate::entry::Entry;
use crate::piece::{Piece, Sum};

/// The plans of tensors, by the effects on their pieces.
pub(crate) struct Effects<'a> {
    entries: &'a [Entry],
    decided: &'a [Decided],
    sum: Sum<Effect>,
    /// By the position of the tensor.
    planned: BTreeMap<usize, PlannedParam>,
}

impl<'a> Effects<'a> {
    pub(crate) fn of(entries: &'a [Entry], decided: &'a [Decided]) -> Self {
        Self { entries, decided, sum: Sum::default(), planned: BTreeMap::new() }
    }

    /// Adds the effect on the next piece, if there is a plan of its tensor.
    pub(crate) fn add(&mut self, piece: &Piece, effect: Option<Effect>) {
        let Some(sum) = effect.and_then(|one| self.sum.add(piece, one, Effect::and)) else {
            return;
        };
        // The bytes of the file, which may not be those in memory.
        let bytes = self.entries[piece.item].bytes;
        self.planned.insert(piece.item, self.decided[piece.item].clone().planned(bytes, sum));
    }

    /// Adds tensors that are other names of tensors with a plan.
    pub(crate) fn share(&mut self, aliases: &[(usize, usize)]) {
        for &(index, of) in aliases {
            if let Some(mut planned) = self.planned.get(&of).cloned() {
                let name = self.entries[index].id.clone();
                planned.reason = Reason::EqualTo { id: mem::replace(&mut planned.id, name) };
                (planned.bytes_before, planned.bytes_after) = (self.entries[index].bytes, 0);
                self.planned.insert(index, planned);
            }
        }
    }

    /// Takes the plan of the last tensor.
    pub(crate) fn pop(&mut self) -> Option<PlannedParam> {
        self.planned.pop_last().map(|(_, planned)| planned)
    }

    /// The plan of all tensors, in their order.
    pub(crate) fn plan(self) -> Plan {
        Plan::of_params(self.planned.into_values().collect())
    }
}
