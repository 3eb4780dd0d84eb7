//! One offer for each tensor: a multiple-choice knapsack.
//!
//! To be found: an offer `j` for each tensor `i`, with the least `Σ e_ij` where `Σ b_ij ≤ B`.
//!
//! 1. An offer that another one of its tensor beats, in bytes and in error, is left out.
//! 2. For a price `λ ≥ 0` of a byte, `L = Σ_i min_j (e_ij + λ b_ij) - λ B` is at most the least
//!    error (Lagrangian relaxation). The `λ` with the greatest `L` is the slope at which the
//!    steps of the lower convex hulls of all tensors, steepest first, use the budget up.
//! 3. The *excess* of an offer is `r_ij = e_ij + λ b_ij - min_j (e_ij + λ b_ij) ≥ 0`. Whatever is
//!    chosen has an error of at least `L + Σ r`. So an offer, or a beginning of a selection, with
//!    `L + Σ r` above the error of a selection that is already known is no part of a better one.
//! 4. What is left is searched by dynamic programming over the tensors, those first where little
//!    tips the balance: a state is the bytes and the error of a beginning; of two states the one
//!    with no fewer bytes and no less error is dropped. The excess that is still to come is at
//!    least that of moving its bytes to the budget along the hulls of the tensors left.
//!
//! Sinha and Zoltners, "The multiple-choice knapsack problem" (1979), for 1 to 3; Pisinger, "A
//! minimal algorithm for the multiple-choice knapsack problem" (1995), for the order of 4.

use alloc::vec::Vec;

use super::{Offer, SelectError};

/// The most states that are kept after one tensor; with many tensors it is fewer.
const STATES: usize = 1 << 17;

/// The most states that are kept for all tensors together.
const ALL_STATES: usize = 1 << 22;

/// No error of a tensor of finite values comes near it, and no sum of such overflows.
const GREATEST_ERROR: f64 = 1e100;

/// An offer for each tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Selection {
    /// The position of the offer chosen for each tensor.
    pub choices: Vec<usize>,
    /// The bytes of all.
    pub bytes: u64,
    /// The sum of their errors.
    pub error: f64,
    /// The error is at most this much above the least that fits: 0 if it is the least.
    pub gap: f64,
}

/// Chooses one offer for each tensor, so that the sum of errors is the least that fits `budget`
/// bytes; of equal ones, one of fewer bytes.
///
/// The result is exact, up to the rounding of sums in f64: with a `gap` of 0 no selection that
/// fits has a smaller error. The problem is NP-hard, so there are inputs for which an exact answer
/// takes too long, although those of models are far from it. Where more than 2¹⁷ states would be
/// kept after one tensor, or 2²² after all, those are kept from which the least errors could
/// follow, and `gap` is a proven bound of how much better the best selection can be. The same
/// offers always give the same selection. It is never worse than one that takes the same position
/// of every tensor (or the last, where a tensor has fewer), even with a gap.
///
/// ```
/// use quant::quantize::mixed::{Offer, select};
/// use quant::quantize::mixed::Precision;
/// use quant::{QuantizationScheme, QuantizationType};
///
/// let int8: Precision = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8).into();
/// let offer = |bytes, error| Offer::new(int8, bytes, error);
/// let tensors = [[offer(8, 1.0), offer(4, 5.0)], [offer(8, 1.0), offer(4, 2.0)]];
/// let selection = select(&tensors, 12)?;
/// assert_eq!(selection.choices, [0, 1]);
/// assert_eq!((selection.bytes, selection.error, selection.gap), (12, 3.0, 0.0));
/// # Ok::<(), quant::quantize::mixed::SelectError>(())
/// ```
///
/// # Errors
/// See [`SelectError`].
pub fn select(tensors: &[impl AsRef<[Offer]>], budget: u64) -> Result<Selection, SelectError> {
    let tensors: Vec<&[Offer]> = tensors.iter().map(AsRef::as_ref).collect();
    check(&tensors)?;
    let curves: Vec<Curve> = tensors.iter().map(|offers| Curve::new(offers)).collect();
    let smallest = curves.iter().map(|curve| curve.0[0].bytes).sum();
    if smallest > budget {
        return Err(SelectError::BudgetTooSmall { budget, smallest });
    }
    Ok(solve(&tensors, &curves, budget, ALL_STATES))
}

fn check(tensors: &[&[Offer]]) -> Result<(), SelectError> {
    let mut most = 0u64;
    for (tensor, offers) in tensors.iter().enumerate() {
        let bytes = offers.iter().map(|offer| offer.bytes).max();
        let bytes = bytes.ok_or(SelectError::NoOffer { tensor })?;
        most = most.checked_add(bytes).ok_or(SelectError::TooManyBytes)?;
        let wrong = |offer: &Offer| !(0.0..=GREATEST_ERROR).contains(&offer.error);
        if let Some(offer) = offers.iter().position(wrong) {
            return Err(SelectError::Error { tensor, offer, error: offers[offer].error });
        }
    }
    Ok(())
}

fn solve(tensors: &[&[Offer]], curves: &[Curve], budget: u64, all_states: usize) -> Selection {
    let (price, greedy) = relax(curves, budget);
    let uniform = (0..tensors.iter().map(|offers| offers.len()).max().unwrap_or(0))
        .map(|position| tensors.iter().map(|offers| position.min(offers.len() - 1)).collect());
    let known = uniform
        .map(|choices| total(tensors, choices))
        .filter(|uniform| uniform.bytes <= budget)
        .fold(total(tensors, greedy), better);
    // A narrow search soon finds something so good that little is left for a wide one.
    let (mut best, mut states) = (known, all_states >> 8);
    loop {
        let (found, dropped) = Search::new(curves, budget, price, &best).run(states);
        if let Some(found) = found {
            best = better(best, total(tensors, found));
        }
        // An error is at least 0, and so is what could have followed from a dropped state.
        let gap = (best.error - dropped.max(0.0)).max(0.0);
        if gap == 0.0 || states >= all_states {
            return Selection { gap, ..best };
        }
        states = (states.max(1) << 4).min(all_states);
    }
}

/// The selection of these offers, without a gap.
fn total(tensors: &[&[Offer]], choices: Vec<usize>) -> Selection {
    let chosen = || tensors.iter().zip(&choices).map(|(offers, &choice)| &offers[choice]);
    let bytes = chosen().map(|offer| offer.bytes).sum();
    let error = chosen().fold(0.0, |sum, offer| sum + offer.error);
    Selection { choices, bytes, error, gap: 0.0 }
}

/// The better one, the first if they are equal.
fn better(a: Selection, b: Selection) -> Selection {
    if (b.error, b.bytes) < (a.error, a.bytes) { b } else { a }
}

/// An offer that no other of its tensor beats.
#[derive(Clone, Copy)]
struct Point {
    offer: usize,
    bytes: u64,
    error: f64,
}

/// The points of a tensor: each has more bytes than the one before, and less error.
struct Curve(Vec<Point>);

impl Curve {
    fn new(offers: &[Offer]) -> Self {
        let point =
            |(offer, it): (usize, &Offer)| Point { offer, bytes: it.bytes, error: it.error };
        let mut points: Vec<_> = offers.iter().enumerate().map(point).collect();
        points.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.error.total_cmp(&b.error)));
        let mut least = f64::INFINITY;
        points.retain(|point| {
            let beats = point.error < least;
            least = least.min(point.error);
            beats
        });
        Self(points)
    }

    /// The corners of the lower convex hull, and the slope that leads to each, which falls.
    fn steps(&self) -> Vec<(f64, Point)> {
        let slope = |a: &Point, b: &Point| (a.error - b.error) / (b.bytes - a.bytes) as f64;
        let mut hull: Vec<(f64, Point)> = alloc::vec![(f64::INFINITY, self.0[0])];
        for &point in &self.0[1..] {
            while let [.., (before, corner)] = hull[..]
                && slope(&corner, &point) >= before
            {
                hull.pop();
            }
            let last = hull.last().expect("the first corner has an infinite slope, and stays").1;
            hull.push((slope(&last, &point), point));
        }
        hull
    }
}

/// The price of a byte at which the budget is used up, and the offers that steps which are worth
/// it lead to, with cheaper ones as long as they fit.
fn relax(curves: &[Curve], budget: u64) -> (f64, Vec<usize>) {
    let mut chosen: Vec<Point> = curves.iter().map(|curve| curve.0[0]).collect();
    let mut bytes: u64 = chosen.iter().map(|point| point.bytes).sum();
    let mut steps: Vec<_> = curves
        .iter()
        .enumerate()
        .flat_map(|(tensor, curve)| curve.steps().into_iter().skip(1).map(move |it| (tensor, it)))
        .collect();
    // Stable: the steps of a tensor stay in their order.
    steps.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let mut price = None;
    let mut stuck = alloc::vec![false; curves.len()];
    for (tensor, (slope, point)) in steps {
        let more = point.bytes - chosen[tensor].bytes;
        if !stuck[tensor] && more <= budget - bytes {
            bytes += more;
            chosen[tensor] = point;
        } else {
            stuck[tensor] = true;
            price.get_or_insert(slope);
        }
    }
    (price.unwrap_or(0.0), chosen.iter().map(|point| point.offer).collect())
}

/// A tensor about which the price leaves a doubt.
struct Open {
    tensor: usize,
    /// Its points with their excess; that at the price, of excess 0, comes first.
    points: Vec<(f64, Point)>,
    /// Those on the lower convex hull, by bytes.
    hull: Vec<(f64, Point)>,
}

impl Open {
    fn new(tensor: usize, curve: &Curve, price: f64) -> (f64, Self) {
        let at_price = |point: &Point| point.error + price * point.bytes as f64;
        let least = curve.0.iter().map(at_price).fold(f64::INFINITY, f64::min);
        let excess = |&point: &Point| (at_price(&point) - least, point);
        let mut points: Vec<_> = curve.0.iter().map(excess).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let hull = curve.steps().iter().map(|(_, point)| excess(point)).collect();
        (least, Self { tensor, points, hull })
    }

    fn at_price(&self) -> Point {
        self.points[0].1
    }

    /// The excess of what comes second.
    fn doubt(&self) -> f64 {
        self.points.get(1).map_or(f64::INFINITY, |(excess, _)| *excess)
    }
}

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

/// What it costs to move bytes to or from tensors that are still to be decided, if offers could
/// be divided.
struct Moves {
    /// Sums of bytes and excess over the steps along the hulls, cheapest per byte first, from
    /// (0, 0) on: towards fewer bytes, and towards more.
    fewer: Vec<(f64, f64)>,
    more: Vec<(f64, f64)>,
    price: f64,
}

/// A step along the hull of a tensor.
#[derive(Clone, Copy)]
struct Step {
    /// The position of the tensor among the open ones.
    open: usize,
    bytes: f64,
    excess: f64,
}

/// The steps along the hulls of all open tensors, cheapest per byte first: towards fewer bytes, and
/// towards more.
struct Steps {
    fewer: Vec<Step>,
    more: Vec<Step>,
}

impl Steps {
    fn new(all: &[Open]) -> Self {
        let mut steps = Self { fewer: Vec::new(), more: Vec::new() };
        for (open, one) in all.iter().enumerate() {
            let base = one.at_price();
            for (from, to) in one.hull.iter().zip(one.hull.iter().skip(1)) {
                let bytes = (to.1.bytes - from.1.bytes) as f64;
                match to.1.bytes <= base.bytes {
                    true => steps.fewer.push(Step { open, bytes, excess: from.0 - to.0 }),
                    false => steps.more.push(Step { open, bytes, excess: to.0 - from.0 }),
                }
            }
        }
        for steps in [&mut steps.fewer, &mut steps.more] {
            steps.sort_by(|a, b| (a.excess / a.bytes).total_cmp(&(b.excess / b.bytes)));
        }
        steps
    }
}

impl Moves {
    /// Over the tensors after the open one `number`. What costs more than `enough` leads to nothing, and
    /// need not be exact.
    fn after(number: usize, steps: &Steps, enough: f64, price: f64) -> Self {
        let sums = |steps: &[Step]| sums(steps, number, enough);
        Self { fewer: sums(&steps.fewer), more: sums(&steps.more), price }
    }

    /// The least excess with which `bytes` become `budget`, or stay below it at its price.
    fn least(&self, bytes: u64, budget: u64) -> f64 {
        match bytes > budget {
            true => along(&self.fewer, (bytes - budget) as f64, f64::INFINITY),
            false => along(&self.more, (budget - bytes) as f64, self.price),
        }
    }
}

/// The running sums of the steps of the tensors after the open one `number`, up to the first above
/// `enough`.
fn sums(steps: &[Step], number: usize, enough: f64) -> Vec<(f64, f64)> {
    let mut sum = (0.0, 0.0);
    let mut sums = alloc::vec![sum];
    for step in steps.iter().filter(|step| step.open > number) {
        sum = (sum.0 + step.bytes, sum.1 + step.excess);
        sums.push(sum);
        if sum.1 > enough {
            break;
        }
    }
    sums
}

/// The excess of `bytes`, and what lies beyond the last sum at `price` a byte.
fn along(sums: &[(f64, f64)], bytes: f64, price: f64) -> f64 {
    let next = sums.partition_point(|sum| sum.0 < bytes);
    match (next.checked_sub(1), sums.get(next)) {
        (None, _) => 0.0,
        (Some(before), None) => sums[before].1 + (bytes - sums[before].0) * price,
        (Some(before), Some(after)) => {
            let before = sums[before];
            before.1 + (after.1 - before.1) * ((bytes - before.0) / (after.0 - before.0))
        }
    }
}

/// What stands before the first turn.
const NONE: u32 = u32::MAX;

struct Search {
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
    fn new(curves: &[Curve], budget: u64, price: f64, known: &Selection) -> Self {
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
            known: (known.error, known.bytes),
            found: None,
            open,
            turns: Vec::new(),
            dropped: f64::INFINITY,
        }
    }

    /// The best choices found, if they are better than those known before, and a bound of what
    /// was left out.
    fn run(mut self, states: usize) -> (Option<Vec<usize>>, f64) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::mixed::Precision;
    use crate::{QuantizationScheme, QuantizationType};

    /// Numbers that look random, from 0 to 1.
    fn noise() -> impl FnMut() -> f64 {
        let mut state = 1u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    fn offer(bytes: u64, error: f64) -> Offer {
        let scheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
        Offer::new(Precision::from(scheme), bytes, error)
    }

    /// Bytes equal to what they are worth leave every price in doubt.
    fn hard(tensors: usize) -> Vec<Vec<Offer>> {
        let mut noise = noise();
        let mut one = || {
            let bytes = 1000 + (noise() * 1e6) as u64;
            [1.0, 0.5, 0.25]
                .map(|share| (bytes as f64 * share) as u64)
                .map(|it| offer(it, (bytes - it) as f64 + noise()))
                .to_vec()
        };
        (0..tensors).map(|_| one()).collect()
    }

    fn solve_with(tensors: &[Vec<Offer>], budget: u64, states: usize) -> Selection {
        let tensors: Vec<&[Offer]> = tensors.iter().map(Vec::as_slice).collect();
        let curves: Vec<Curve> = tensors.iter().map(|offers| Curve::new(offers)).collect();
        solve(&tensors, &curves, budget, states)
    }

    #[test]
    fn a_thinned_search_says_how_much_better_the_best_can_be() {
        let mut gaps = 0;
        for tensors in [5, 8, 10] {
            let tensors = hard(tensors);
            let most: u64 = tensors.iter().map(|offers| offers[0].bytes).sum();
            for tenths in 3..10 {
                let budget = most * tenths / 10;
                let exact = solve_with(&tensors, budget, ALL_STATES);
                assert_eq!(exact.gap, 0.0);
                for states in [1, 20, 200] {
                    let thinned = solve_with(&tensors, budget, states);
                    assert!(thinned.bytes <= budget);
                    assert!(thinned.error >= exact.error);
                    assert!(thinned.error - thinned.gap <= exact.error);
                    gaps += u32::from(thinned.gap > 0.0);
                }
            }
        }
        assert!(gaps > 0, "no search was thinned");
    }

    #[test]
    fn a_search_without_room_is_no_worse_than_a_uniform_choice() {
        let tensors = hard(30);
        for position in 0..3 {
            let uniform = || tensors.iter().map(|offers| &offers[position]);
            let budget = uniform().map(|offer| offer.bytes).sum();
            let error = uniform().fold(0.0, |sum, offer| sum + offer.error);
            assert!(solve_with(&tensors, budget, 1).error <= error);
        }
    }

    #[test]
    fn the_hull_has_falling_slopes() {
        let points = [(1, 10.0), (2, 9.5), (3, 4.0), (4, 3.9), (9, 0.0)];
        let offers: Vec<_> = points.into_iter().map(|(bytes, error)| offer(bytes, error)).collect();
        let steps: Vec<_> =
            Curve::new(&offers).steps().into_iter().map(|(slope, to)| (slope, to.bytes)).collect();
        assert_eq!(steps, [(f64::INFINITY, 1), (3.0, 3), (4.0 / 6.0, 9)]);
    }
}
