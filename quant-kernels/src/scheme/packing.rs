//! Rule 5: codes narrower than a byte.
//!
//! Two's complement, little end first: element 0 in the low bits. Each row starts on a byte of
//! its own, and what is left of a row's last byte is zero.

#[cfg(feature = "alloc")]
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

/// The bytes that one row of `len` codes takes in the dense form, in which a code of any width
/// takes only its own bits.
#[inline]
pub const fn dense_row_bytes(len: usize, ty: QuantizationType) -> usize {
    // `len` is at most `usize::MAX`, so eight codes at a time do not overflow.
    let bits = ty.bits() as usize;
    len / 8 * bits + (len % 8 * bits).div_ceil(8)
}

/// The bytes that a tensor of this shape takes in the dense form, or `None` if `usize` cannot count
/// them. Equal to [`packed_bytes`] for 2, 4 and 8 bits.
pub fn dense_bytes(shape: &[usize], ty: QuantizationType) -> Option<usize> {
    let (row, rows) = rows(shape)?;
    dense_row_bytes(row, ty).checked_mul(rows)
}

/// Whether the dense form of a type differs from the one in memory: 3, 5, 6 and 7 bits.
#[inline]
pub const fn is_dense_narrower(ty: QuantizationType) -> bool {
    ty.bits() != ty.storage_bits()
}

/// Appends one row of codes in the dense form: code `i` has the bits from `i * b` on, low bits
/// first, and the bits after the last code are zero.
#[cfg(feature = "alloc")]
pub fn pack_dense_row(codes: &[i8], ty: QuantizationType, packed: &mut Vec<u8>) {
    let (bits, mask) = (ty.bits(), low_bits(ty.bits()));
    let (mut waiting, mut len) = (0u32, 0);
    for &code in codes {
        waiting |= u32::from(code as u8 & mask) << len;
        len += bits;
        if len >= 8 {
            packed.push(waiting as u8);
            waiting >>= 8;
            len -= 8;
        }
    }
    if len > 0 {
        packed.push(waiting as u8);
    }
}

/// The codes of one row in the dense form, one to the byte, into `codes`.
///
/// # Panics
/// If `row` has fewer bytes than `codes` needs.
pub fn unpack_dense_row(row: &[u8], ty: QuantizationType, codes: &mut [i8]) {
    let bits = ty.bits();
    let (mut waiting, mut len) = (0u32, 0);
    let mut bytes = row.iter();
    for code in codes {
        if len < bits {
            let byte = bytes.next().expect("a row has the bytes of its codes");
            waiting |= u32::from(*byte) << len;
            len += 8;
        }
        // Up to the top of the byte, then down again, carrying the sign.
        *code = ((waiting << (8 - bits)) as u8 as i8) >> (8 - bits);
        waiting >>= bits;
        len -= bits;
    }
}

/// The codes of a tensor as they are in memory, from the dense form.
///
/// # Errors
/// The first byte whose padding bits are not zero.
///
/// # Panics
/// If `dense` has not [`dense_bytes`] bytes.
#[cfg(feature = "alloc")]
pub fn from_dense(dense: &[u8], shape: &[usize], ty: QuantizationType) -> Result<Vec<u8>, usize> {
    let (row, rows) = rows(shape).unwrap_or((0, 0));
    let bytes = dense_row_bytes(row, ty);
    assert_eq!(dense.len(), bytes * rows, "the rows of the shape");
    let used = row % 8 * ty.bits() as usize % 8;
    if used > 0 {
        let mask = !low_bits(used as u32);
        let mut last = (bytes - 1..dense.len()).step_by(bytes);
        if let Some(dirty) = last.find(|&last| dense[last] & mask != 0) {
            return Err(dirty);
        }
    }
    let mut packed = Vec::with_capacity(row_bytes(row, ty) * rows);
    let mut codes = alloc::vec![0; if dense.is_empty() { 0 } else { row }];
    for row in dense.chunks(bytes.max(1)) {
        unpack_dense_row(row, ty, &mut codes);
        pack_row(&codes, ty, &mut packed);
    }
    Ok(packed)
}

/// The length of a row and the number of rows of a tensor, or `None` if `usize` cannot count them. A row
/// is the last axis; a scalar is one row of one element.
pub fn rows(shape: &[usize]) -> Option<(usize, usize)> {
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
#[cfg(feature = "alloc")]
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
#[cfg(feature = "alloc")]
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
#[cfg(feature = "alloc")]
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
    fn dense_codes_follow_each_other_without_a_gap() {
        let dense = |codes: &[i8], ty| {
            let mut packed = Vec::new();
            pack_dense_row(codes, ty, &mut packed);
            packed
        };
        assert_eq!(dense(&[1, -1, 2, -4, 3], QInt3), [0b10_111_001, 0b0011_1000]);
        assert_eq!(dense(&[1, -16], QInt5), [0b000_00001, 0b10]);
        for ty in [QInt2, QInt4, QInt8] {
            assert_eq!(dense(&[1, -2, 0, -1, 1], ty), pack(&[1, -2, 0, -1, 1], 5, ty));
        }
    }

    #[test]
    fn the_dense_form_is_read_back_at_every_width_and_length() {
        for ty in QuantizationType::ALL {
            let (qmin, qmax) = ty.code_range(crate::scheme::Mapping::Affine);
            for row in 1..18 {
                let codes: Vec<i8> =
                    (qmin..=qmax).cycle().take(3 * row).map(|code| code as i8).collect();
                let mut dense = Vec::new();
                codes.chunks(row).for_each(|row| pack_dense_row(row, ty, &mut dense));
                assert_eq!(Some(dense.len()), dense_bytes(&[3, row], ty));
                assert_eq!(is_dense_narrower(ty), ![2, 4, 8].contains(&ty.bits()));
                assert_eq!(from_dense(&dense, &[3, row], ty), Ok(pack(&codes, row, ty)));
                if !(row * ty.bits() as usize).is_multiple_of(8) {
                    let last = dense_row_bytes(row, ty) * 2 - 1;
                    dense[last] |= 0x80;
                    assert_eq!(from_dense(&dense, &[3, row], ty), Err(last));
                }
            }
        }
    }

    #[test]
    fn empty_tensors_have_no_dense_bytes() {
        for shape in [&[0usize][..], &[3, 0], &[0, usize::MAX / 8]] {
            assert_eq!(dense_bytes(shape, QInt3), Some(0));
            assert_eq!(from_dense(&[], shape, QInt3), Ok(Vec::new()));
        }
        assert_eq!(dense_bytes(&[9, usize::MAX], QInt3), None);
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
