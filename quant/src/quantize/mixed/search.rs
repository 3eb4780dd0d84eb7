//! Dynamic programming over the tensors that are in doubt (step 4 of `select`).

use alloc::vec::Vec;

use super::curve::Curve;
use super::moves::{Moves, Open, Steps};

/// The most states that are kept after one tensor; with many tensors it is fewer.
const STATES: usize = 1 << 17;

/// The beginning of a selection, with the tensors that are still to be decided at the price.
#[derive(Clone, Copy)]
struct State {
    bytes: u64,
    error: f64,
    excess: f64,
    /// What the excess will be at least.
    expected: f64,
    last: Turn,
}

/// A point that is not that at the price, and the turn before it.
#[derive(Clone, Copy)]
struct Turn {
    before: u32,
    open: u32,
    point: u32,
}

/// What stands before the first turn.
const NONE: u32 = u32::MAX;

/// A search for better choices than those that are known.
pub(super) struct Search {
    budget: u64,
    price: f64,
    /// What any selection has at least.
    bound: f64,
    /// More than rounding can make of a bound.
    slack: f64,
    /// The least error known, and its bytes.
    known: (f64, u64),
    found: Option<Turn>,
    /// In the order of doubt, least first.
    open: Vec<Open>,
    turns: Vec<Turn>,
    /// The bound of the best state that was dropped for want of room.
    dropped: f64,
}

impl Search {
    pub(super) fn new(curves: &[Curve], budget: u64, price: f64, known: (f64, u64)) -> Self {
        let (mut sum, mut open) = (0.0, Vec::with_capacity(curves.len()));
        for (tensor, curve) in curves.iter().enumerate() {
            let (least, one) = Open::new(tensor, curve, price);
            sum += least;
            open.push(one);
        }
        open.sort_by(|a, b| a.doubt().total_cmp(&b.doubt()));
        let paid = price * budget as f64;
        let slack = 4.0 * f64::EPSILON * (curves.len() + 4) as f64 * (sum + paid);
        Self {
            budget,
            price,
            bound: sum - paid,
            slack,
            known,
            found: None,
            open,
            turns: Vec::new(),
            dropped: f64::INFINITY,
        }
    }

    /// The best choices found, if they are better than those known before, and a bound of what
    /// was left out.
    pub(super) fn run(mut self, states: usize) -> (Option<Vec<usize>>, f64) {
        let doubtful = self.open.iter().filter(|open| self.may_be_better(open.doubt())).count();
        let room = (states / doubtful.max(1)).clamp(1, STATES);
        let mut beginnings = alloc::vec![self.start()];
        let steps = Steps::new(&self.open);
        for number in 0..doubtful {
            // What is known may have become better since.
            if !self.may_be_better(self.open[number].doubt()) {
                break;
            }
            let moves = Moves::after(number, &steps, self.most(), self.price);
            let longer = self.extend(&beginnings, number, &moves);
            beginnings = self.thin(longer, room);
        }
        let found = self.found.map(|last| self.choices(last));
        (found, self.dropped)
    }

    fn may_be_better(&self, excess: f64) -> bool {
        self.bound + excess <= self.known.0 + self.slack
    }

    /// An excess above all that [may be better](Self::may_be_better).
    fn most(&self) -> f64 {
        let most = self.known.0 + self.slack - self.bound;
        // More than rounding can make of the difference.
        most + 1e-9 * (self.known.0 + self.slack + self.bound.abs())
    }

    /// Every tensor at the price.
    fn start(&mut self) -> State {
        let points = || self.open.iter().map(Open::at_price);
        let start = State {
            bytes: points().map(|point| point.bytes).sum(),
            error: points().map(|point| point.error).sum(),
            excess: 0.0,
            expected: 0.0,
            last: Turn { before: NONE, open: NONE, point: 0 },
        };
        self.consider(&start);
        start
    }

    /// Keeps a selection that is better than what is known.
    fn consider(&mut self, state: &State) {
        let reached = (state.error, state.bytes);
        if state.bytes <= self.budget && reached < self.known {
            self.known = reached;
            self.found = Some(state.last);
        }
    }

    /// The beginnings with each point of one more tensor, but for those that lead to nothing; by
    /// bytes, each with less error than the one before.
    fn extend(&mut self, beginnings: &[State], number: usize, moves: &Moves) -> Vec<State> {
        let before: Vec<u32> = beginnings.iter().map(|state| self.turn(state.last)).collect();
        let from = self.open[number].at_price();
        let mut longer = Vec::new();
        for place in 0..self.open[number].points.len() {
            let (excess, to) = self.open[number].points[place];
            for (state, &before) in beginnings.iter().zip(&before) {
                let last = Turn { before, open: number as u32, point: place as u32 };
                let bytes = state.bytes - from.bytes + to.bytes;
                let excess = state.excess + excess;
                let state = State {
                    bytes,
                    error: state.error - from.error + to.error,
                    excess,
                    expected: excess + moves.least(bytes, self.budget),
                    last: if place == 0 { state.last } else { last },
                };
                if self.may_be_better(state.expected) {
                    self.consider(&state);
                    longer.push(state);
                }
            }
        }
        // Made of as many runs in order as there are points.
        longer.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
        let mut least = f64::INFINITY;
        longer.retain(|state| {
            let beats = state.error < least;
            least = least.min(state.error);
            beats
        });
        longer
    }

    /// The number of a turn that others may follow.
    fn turn(&mut self, turn: Turn) -> u32 {
        if turn.open == NONE {
            return NONE;
        }
        self.turns.push(turn);
        self.turns.len() as u32 - 1
    }

    /// The `room` states of the least excess that is to be expected, in their order.
    fn thin(&mut self, mut states: Vec<State>, room: usize) -> Vec<State> {
        if states.len() > room {
            states.select_nth_unstable_by(room, |a, b| a.expected.total_cmp(&b.expected));
            self.dropped = self.dropped.min(self.bound + states[room].expected);
            states.truncate(room);
            states.sort_by_key(|state| state.bytes);
        }
        states
    }

    /// The offers of a selection whose last turn is this.
    fn choices(&self, mut turn: Turn) -> Vec<usize> {
        let mut choices = alloc::vec![0; self.open.len()];
        for open in &self.open {
            choices[open.tensor] = open.at_price().offer;
        }
        while turn.open != NONE {
            let open = &self.open[turn.open as usize];
            choices[open.tensor] = open.points[turn.point as usize].1.offer;
            match turn.before {
                NONE => break,
                before => turn = self.turns[before as usize],
            }
        }
        choices
    }
}
