//! What it costs at least to bring a beginning of a selection to the budget (the bound in step 4 of `select`).

use alloc::vec::Vec;

use super::curve::{Curve, Point};

/// A tensor about which the price leaves a doubt.
pub(super) struct Open {
    pub(super) tensor: usize,
    /// Its points with their excess; that at the price, of excess 0, comes first.
    pub(super) points: Vec<(f64, Point)>,
    /// Those on the lower convex hull, by bytes.
    hull: Vec<(f64, Point)>,
}

impl Open {
    pub(super) fn new(tensor: usize, curve: &Curve, price: f64) -> (f64, Self) {
        let at_price = |point: &Point| point.error + price * point.bytes as f64;
        let least = curve.0.iter().map(at_price).fold(f64::INFINITY, f64::min);
        let excess = |&point: &Point| (at_price(&point) - least, point);
        let mut points: Vec<_> = curve.0.iter().map(excess).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let hull = curve.steps().iter().map(|(_, point)| excess(point)).collect();
        (least, Self { tensor, points, hull })
    }

    pub(super) fn at_price(&self) -> Point {
        self.points[0].1
    }

    /// The excess of what comes second.
    pub(super) fn doubt(&self) -> f64 {
        self.points.get(1).map_or(f64::INFINITY, |(excess, _)| *excess)
    }
}

/// What it costs to move bytes to or from tensors that are still to be decided, if offers could
/// be divided.
pub(super) struct Moves {
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
pub(super) struct Steps {
    fewer: Vec<Step>,
    more: Vec<Step>,
}

impl Steps {
    pub(super) fn new(all: &[Open]) -> Self {
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
    pub(super) fn after(number: usize, steps: &Steps, enough: f64, price: f64) -> Self {
        let sums = |steps: &[Step]| sums(steps, number, enough);
        Self { fewer: sums(&steps.fewer), more: sums(&steps.more), price }
    }

    /// The least excess with which `bytes` become `budget`, or stay below it at its price.
    pub(super) fn least(&self, bytes: u64, budget: u64) -> f64 {
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
