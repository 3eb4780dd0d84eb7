//! Text about each of many tensors, made by several threads and written in order.

use std::io::{self, Write};

use super::tensor::TensorReport;

/// The tensors whose text waits to be written: a few megabytes.
const BATCH: usize = 1024;

/// The tensors whose text one thread makes at once.
const RUN: usize = 64;

/// Writes what `each` writes of every tensor and its number.
pub(super) fn write_each(
    w: &mut impl Write,
    tensors: &[TensorReport],
    each: impl Fn(&mut Vec<u8>, usize, &TensorReport) -> io::Result<()> + Sync,
) -> io::Result<()> {
    for (batch, tensors) in tensors.chunks(BATCH).enumerate() {
        let text = |(run, tensors): (usize, &[TensorReport])| -> io::Result<Vec<u8>> {
            let (first, mut text) = (batch * BATCH + run * RUN, Vec::new());
            for (position, tensor) in tensors.iter().enumerate() {
                each(&mut text, first + position, tensor)?;
            }
            Ok(text)
        };
        for text in map_runs(tensors, text) {
            w.write_all(&text?)?;
        }
    }
    Ok(())
}

#[cfg(feature = "rayon")]
fn map_runs<R: Send>(
    tensors: &[TensorReport],
    each: impl Fn((usize, &[TensorReport])) -> R + Sync,
) -> Vec<R> {
    use rayon::iter::{IndexedParallelIterator, ParallelIterator};
    use rayon::slice::ParallelSlice;
    tensors.par_chunks(RUN).enumerate().map(&each).collect()
}

#[cfg(not(feature = "rayon"))]
fn map_runs<R>(
    tensors: &[TensorReport],
    each: impl Fn((usize, &[TensorReport])) -> R,
) -> impl Iterator<Item = R> {
    tensors.chunks(RUN).enumerate().map(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_order_of_the_tensors() {
        let tensor = TensorReport::new("w", &[], &[1.0], None).unwrap();
        let (tensors, mut page) = (vec![tensor; BATCH + RUN + 1], Vec::new());
        write_each(&mut page, &tensors, |text, number, _| writeln!(text, "{number}")).unwrap();
        let numbers = (0..tensors.len()).map(|number| format!("{number}\n"));
        assert_eq!(String::from_utf8(page).unwrap(), numbers.collect::<String>());
    }
}
