//! Rule 5: codes narrower than a byte.
//!
//! Two's complement, little end first: element 0 in the low bits. Each row starts on a byte of
//! its own, and what is left of a row's last byte is zero.

use alloc::vec::Vec;

use super::QuantizationType;

/// The bytes that one row of `len` codes takes.
///
/// ```
/// use quant_kernels::scheme::{QuantizationType, packing};
/// assert_eq!(packing::row_bytes(5, QuantizationType::QInt4), 3);
/// ```
#[inline]
pub const fn row_bytes(len: usize, ty: QuantizationType) -> usize {
    len.div_ceil(codes_per_byte(ty))
}

/// The bytes that a tensor of this shape takes, or `None` if `usize` cannot count them.
pub fn packed_bytes(shape: &[usize], ty: QuantizationType) -> Option<usize> {
    let (row, rows) = rows(shape)?;
    row_bytes(row, ty).checked_mul(rows)
}

/// The length of a row, and the number of rows.
fn rows(shape: &[usize]) -> Option<(usize, usize)> {
    match shape {
        [] => Some((1, 1)),
        [.., 0] => Some((0, 0)),
        [outer @ .., row] => Some((*row, super::groups::element_count(outer)?)),
    }
}

const fn codes_per_byte(ty: QuantizationType) -> usize {
    8 / ty.storage_bits() as usize
}

/// Packs rows of `row` codes each, one code to the byte on entry.
pub fn pack(codes: &[i8], row: usize, ty: QuantizationType) -> Vec<u8> {
    if codes_per_byte(ty) == 1 {
        return codes.iter().map(|&code| code as u8).collect();
    }
    let mut packed = Vec::with_capacity(codes.len() / row.max(1) * row_bytes(row, ty));
    for row in codes.chunks(row.max(1)) {
        pack_row(row, ty, &mut packed);
    }
    packed
}

/// Appends one row of codes.
pub fn pack_row(codes: &[i8], ty: QuantizationType, packed: &mut Vec<u8>) {
    let bits = ty.storage_bits();
    let mask = low_bits(bits);
    packed.extend(codes.chunks(codes_per_byte(ty)).map(|byte| {
        byte.iter().rev().fold(0u32, |acc, &code| acc << bits | u32::from(code as u8 & mask)) as u8
    }));
}

/// The code at `index` of a row.
#[inline]
pub const fn unpack_one(row: &[u8], index: usize, ty: QuantizationType) -> i8 {
    let per_byte = codes_per_byte(ty);
    let bits = ty.storage_bits();
    let byte = row[index / per_byte];
    let shift = (index % per_byte) as u32 * bits;
    // Up to the top of the byte, then down again, carrying the sign.
    ((byte << (8 - bits - shift)) as i8) >> (8 - bits)
}

/// The codes of one row, one to the byte, into `codes`.
///
/// # Panics
/// If `row` has fewer bytes than `codes` needs.
pub fn unpack_row(row: &[u8], ty: QuantizationType, codes: &mut [i8]) {
    let (per_byte, bits) = (codes_per_byte(ty), ty.storage_bits());
    for (byte, codes) in row.iter().zip(codes.chunks_mut(per_byte)) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = ((byte << (8 - bits - i as u32 * bits)) as i8) >> (8 - bits);
        }
    }
}

/// The codes of a tensor of this shape, one to the byte.
///
/// # Panics
/// If `packed` is shorter than [`packed_bytes`].
pub fn unpack(packed: &[u8], shape: &[usize], ty: QuantizationType) -> Vec<i8> {
    if codes_per_byte(ty) == 1 {
        return packed.iter().map(|&byte| byte as i8).collect();
    }
    let (row, rows) = rows(shape).unwrap_or((0, 0));
    let mut codes = alloc::vec![0; row * rows];
    let bytes = row_bytes(row, ty);
    for (codes, packed) in codes.chunks_mut(row.max(1)).zip(packed.chunks(bytes.max(1))) {
        unpack_row(packed, ty, codes);
    }
    codes
}

/// The first byte whose padding bits are not zero, if there is one.
pub fn first_dirty_padding(packed: &[u8], shape: &[usize], ty: QuantizationType) -> Option<usize> {
    let (row, _) = rows(shape)?;
    let used = row % codes_per_byte(ty);
    if used == 0 {
        return None;
    }
    let mask = !low_bits(used as u32 * ty.storage_bits());
    let bytes = row_bytes(row, ty);
    (bytes - 1..packed.len()).step_by(bytes).find(|&last| packed[last] & mask != 0)
}

/// A byte with its lowest `bits` set; fewer than 8 of them unless all.
const fn low_bits(bits: u32) -> u8 {
    (0xFFu32 >> (8 - bits)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use QuantizationType::{QInt2, QInt3, QInt4, QInt5, QInt8};

    #[test]
    fn element_zero_is_in_the_low_bits() {
        assert_eq!(pack(&[1, -1, 7], 3, QInt4), [0xF1, 0x07]);
        assert_eq!(pack(&[1, -2, -1, 0, 1], 5, QInt2), [0b00_11_10_01, 0b01]);
        assert_eq!(pack(&[-128, 127], 2, QInt8), [0x80, 0x7F]);
    }

    #[test]
    fn rows_start_on_a_byte() {
        assert_eq!(pack(&[1, 2, 3, 4, 5, 6], 3, QInt4), [0x21, 0x03, 0x54, 0x06]);
        assert_eq!(packed_bytes(&[2, 3], QInt4), Some(4));
        assert_eq!(packed_bytes(&[], QInt2), Some(1));
        assert_eq!(packed_bytes(&[4, 0], QInt2), Some(0));
    }

    #[test]
    fn codes_survive_packing_at_every_width_and_length() {
        for ty in QuantizationType::ALL {
            let (qmin, qmax) = ty.code_range(crate::scheme::Mapping::Affine);
            for row in 1..18 {
                let codes: Vec<i8> =
                    (qmin..=qmax).cycle().take(3 * row).map(|code| code as i8).collect();
                let packed = pack(&codes, row, ty);
                assert_eq!(Some(packed.len()), packed_bytes(&[3, row], ty));
                assert_eq!(unpack(&packed, &[3, row], ty), codes);
                assert_eq!(first_dirty_padding(&packed, &[3, row], ty), None);
                for (i, &code) in codes.iter().enumerate() {
                    let bytes = row_bytes(row, ty);
                    assert_eq!(unpack_one(&packed[i / row * bytes..], i % row, ty), code);
                }
            }
        }
    }

    #[test]
    fn padding_that_is_not_zero_is_found() {
        let mut packed = pack(&[1, 2, 3, 4, 5, 6], 3, QInt3);
        packed[3] |= 0x10;
        assert_eq!(first_dirty_padding(&packed, &[2, 3], QInt3), Some(3));
        assert_eq!(first_dirty_padding(&[0xFF], &[1], QInt5), None);
    }

    #[test]
    fn uncountable_shapes_have_no_size() {
        assert_eq!(packed_bytes(&[usize::MAX, usize::MAX, 8], QInt8), None);
    }
}
