//! Embedding: rows of a quantized matrix are dequantized when they are looked up.
//!
//! Imports `bits`, `elementwise` and `pack::weights`.

use crate::dispatch::Kernel;
use crate::elementwise::affine::Affine;
use crate::error::LookupError;
use crate::pack::weights::Codes;
use crate::scheme::Granularity;

/// The weights of an embedding, `[rows, columns]` in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingWeights<'a> {
    /// The number of rows.
    pub rows: usize,
    /// The elements of a row.
    pub columns: usize,
    /// `rows` rows of `columns` codes.
    pub codes: Codes<'a>,
    /// Which codes share a scale and a zero point; channels are rows,
    /// [`Axis::FIRST`](crate::scheme::Axis::FIRST).
    pub granularity: Granularity,
    /// One scale for all rows, one per row, or one per block of each row.
    pub scales: &'a [f32],
    /// As many zero points, or one for all codes; empty if all are zero.
    pub zero_points: &'a [i8],
    /// As many minimums; empty if there are none. See [`Weights::minimums`](crate::Weights::minimums).
    pub minimums: &'a [f32],
}

/// Packed codes that are unpacked at a time: whole bytes of every width.
const PIECE: usize = 256;

impl Kernel {
    /// Writes the rows `ids`, one after the other: `f32(code - zero point) * scale`, plus the minimum if there is
    /// one.
    ///
    /// # Errors
    /// - A slice does not have the length that the shape requires.
    /// - Channels are not along axis 0.
    /// - An id is not less than the number of rows.
    pub fn embedding(
        self,
        table: &EmbeddingWeights<'_>,
        ids: &[u32],
        out: &mut [f32],
    ) -> Result<(), LookupError> {
        let parameters = check(table)?;
        let expected = ids.len().saturating_mul(table.columns);
        if out.len() != expected {
            return Err(LookupError::Length { of: "output", expected, found: out.len() });
        }
        for (position, &id) in ids.iter().enumerate() {
            if id as usize >= table.rows {
                return Err(LookupError::UnknownRow { position, id, rows: table.rows });
            }
        }
        let rows = out.chunks_mut(table.columns.max(1));
        for (&id, out) in ids.iter().zip(rows) {
            self.table_row(table, id as usize, parameters, out);
        }
        Ok(())
    }

    /// `parameters` is the number of scales of a row, 0 if all rows share one.
    fn table_row(
        self,
        table: &EmbeddingWeights<'_>,
        row: usize,
        parameters: usize,
        out: &mut [f32],
    ) {
        let block = match table.granularity {
            Granularity::PerBlock(block) => block.len(),
            Granularity::PerTensor | Granularity::PerChannel(_) => table.columns,
        };
        for (i, out) in out.chunks_mut(block.max(1)).enumerate() {
            let at = row * parameters + i;
            let zeros = table.zero_points;
            let zero = zeros.get(if zeros.len() == 1 { 0 } else { at });
            let zero = zero.map_or(0, |zero| i32::from(*zero));
            self.table_block(table, row, i * block, table.scales[at], zero, out);
            if let Some(minimum) = table.minimums.get(at) {
                out.iter_mut().for_each(|value| *value += minimum);
            }
        }
    }

    fn table_block(
        self,
        table: &EmbeddingWeights<'_>,
        row: usize,
        start: usize,
        scale: f32,
        zero: i32,
        out: &mut [f32],
    ) {
        match table.codes {
            Codes::Bytes(codes) => {
                let codes = &codes[row * table.columns + start..][..out.len()];
                self.dequantize_by(codes, Affine::new(scale, zero, -128, 127), out);
            }
            Codes::Packed(width, codes) => {
                let bytes = width.row_bytes(table.columns);
                let codes = &codes[row * bytes..][..bytes];
                let mut piece = [0; PIECE];
                // A block may begin within a byte: the codes before it are unpacked, too.
                let before = start % width.per_byte();
                let mut from = start - before;
                let mut done = 0;
                while done < out.len() {
                    let skip = if done == 0 { before } else { 0 };
                    let len = PIECE.min(out.len() - done + skip);
                    let packed = &codes[from / width.per_byte()..][..width.row_bytes(len)];
                    self.unpack(width, packed, &mut piece[..len]);
                    let out = &mut out[done..][..len - skip];
                    self.dequantize_by(&piece[skip..len], Affine::new(scale, zero, -128, 127), out);
                    (from, done) = (from + len, done + len - skip);
                }
            }
        }
    }
}

fn check(table: &EmbeddingWeights<'_>) -> Result<usize, LookupError> {
    let &EmbeddingWeights { rows, columns, codes, granularity, scales, zero_points, minimums } =
        table;
    let length = |of, expected, found| {
        if expected == found { Ok(()) } else { Err(LookupError::Length { of, expected, found }) }
    };
    match codes {
        Codes::Bytes(codes) => length("codes", rows.saturating_mul(columns), codes.len())?,
        Codes::Packed(width, codes) => {
            length("codes", rows.saturating_mul(width.row_bytes(columns)), codes.len())?;
        }
    }
    let parameters = match granularity {
        Granularity::PerTensor => 0,
        Granularity::PerChannel(axis) if axis.resolve(2) == Some(0) => 1,
        Granularity::PerChannel(axis) => return Err(LookupError::Axis { axis }),
        Granularity::PerBlock(block) => columns.div_ceil(block.len()),
    };
    let expected = if parameters == 0 { 1 } else { rows.saturating_mul(parameters) };
    length("scales", expected, scales.len())?;
    if zero_points.len() > 1 {
        length("zero points", expected, zero_points.len())?;
    }
    if !minimums.is_empty() {
        length("minimums", expected, minimums.len())?;
    }
    Ok(parameters)
}
