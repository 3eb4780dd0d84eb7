//! What a tensor can become, and a price for a byte (steps 1 and 2 of `select`).

use alloc::vec::Vec;

use super::Offer;

/// An offer that no other of its tensor beats.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) offer: usize,
    pub(super) bytes: u64,
    pub(super) error: f64,
}

/// The points of a tensor: each has more bytes than the one before, and less error.
pub(super) struct Curve(pub(super) Vec<Point>);

impl Curve {
    pub(super) fn new(offers: &[Offer]) -> Self {
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
    pub(super) fn steps(&self) -> Vec<(f64, Point)> {
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
pub(super) fn relax(curves: &[Curve], budget: u64) -> (f64, Vec<usize>) {
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
