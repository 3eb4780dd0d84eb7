//! Batches in random order, and a rate that falls.

/// The indices `0..count` in an order drawn by `rng`, in batches.
pub fn batches(count: usize, size: usize, rng: &mut fastrand::Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut order);
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

/// The rate in an epoch from 0: it falls in a straight line to a twentieth.
pub fn rate(start: f64, epoch: usize, epochs: usize) -> f64 {
    start * (1.0 - 0.95 * (epoch + 1) as f64 / epochs as f64)
}
