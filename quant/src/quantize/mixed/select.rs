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

use super::curve::{Curve, relax};
use super::search::Search;
use super::{Offer, SelectError};

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
        let (found, dropped) =
            Search::new(curves, budget, price, (best.error, best.bytes)).run(states);
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
