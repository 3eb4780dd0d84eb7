//! Whether a scheme of this library has the codes, scales and zero points of a tensor, exactly.
//!
//! Codes with zero points of 0 are full-range, where a scale is any finite number; so it is over
//! minimums. Others are affine, where it is positive and normal. Scales of tensors and channels are kept in single precision, those
//! of blocks in the type of the file.

use quant::scheme::{Axis, Block, Granularity, Mapping};
use quant::{QuantizationScheme, QuantizationType, RecordError};

use super::codes::Columns;
use crate::method::FloatReason;
use crate::safetensors::Dtype;

/// What decides on a scheme: everything but codes and scales.
#[derive(Debug)]
pub(super) struct Integers {
    pub(super) shape: Vec<usize>,
    pub(super) bits: usize,
    pub(super) sharing: Sharing,
    pub(super) scale_dtype: Dtype,
    /// Empty if all are 0.
    pub(super) zero_points: Vec<i16>,
    /// Whether codes are steps above a minimum. There are no zero points then.
    pub(super) over_minimums: bool,
}

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sharing {
    Tensor,
    /// So many rows and columns.
    Block([usize; 2]),
    /// Columns that are not next to each other.
    Scattered,
}

impl Sharing {
    /// That of the columns of one row; `None` for groups that do not exist, which is an error when
    /// values are read.
    pub(super) fn of_columns(columns: Option<Columns>) -> Self {
        match columns {
            Some(Columns::Runs(len)) => Self::Block([1, len]),
            Some(Columns::Indexed(_)) | None => Self::Scattered,
        }
    }
}

impl Integers {
    /// The scheme. `scales` reads them.
    ///
    /// # Errors
    /// The scales cannot be read; or the reason why no scheme has the codes.
    pub(super) fn scheme(
        &self,
        scales: impl FnOnce() -> Result<Vec<f32>, RecordError>,
    ) -> Result<Result<QuantizationScheme, FloatReason>, RecordError> {
        let (ty, granularity) = match (self.quantization_type(), self.granularity()) {
            (Ok(ty), Ok(granularity)) => (ty, granularity),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        if self.zero_points.iter().all(|&zero_point| zero_point == 0) {
            let mapping = if self.over_minimums { Mapping::Minimum } else { Mapping::FullRange };
            return Ok(Ok(QuantizationScheme::new(ty, mapping, granularity)));
        }
        let scheme = QuantizationScheme::new(ty, Mapping::Affine, granularity);
        let (least, greatest) = ty.code_range(Mapping::Affine);
        let is_code = |zero_point: i16| (least..=greatest).contains(&zero_point.into());
        if let Some(&zero_point) = self.zero_points.iter().find(|&&it| !is_code(it)) {
            return Ok(Err(FloatReason::ZeroPoint { zero_point }));
        }
        let is_scale = |&scale: &f32| scheme.scale_type().holds(scale);
        Ok(if scales()?.iter().all(is_scale) { Ok(scheme) } else { Err(FloatReason::Scale) })
    }

    fn quantization_type(&self) -> Result<QuantizationType, FloatReason> {
        QuantizationType::from_bits(self.bits as u32).ok_or(FloatReason::Bits { bits: self.bits })
    }

    fn granularity(&self) -> Result<Granularity, FloatReason> {
        if self.shape.contains(&0) {
            return Err(FloatReason::Empty);
        }
        let [rows, columns] = match self.shape[..] {
            [.., rows, columns] => [rows, columns],
            [columns] => [1, columns],
            [] => [1, 1],
        };
        match (self.sharing, self.shape.len()) {
            (Sharing::Tensor, _) => Ok(Granularity::PerTensor),
            (Sharing::Scattered, _) => Err(FloatReason::ActOrder),
            // One for each row of a matrix, or for each matrix of a stack.
            (Sharing::Block([1, len]), 2) if len >= columns => {
                Ok(Granularity::PerChannel(Axis::FIRST))
            }
            (Sharing::Block([height, len]), 3) if rows > 1 && height >= rows && len >= columns => {
                Ok(Granularity::PerChannel(Axis::FIRST))
            }
            (Sharing::Block([height, len]), _) if height == 1 || rows == 1 => {
                self.blocks(len).ok_or(FloatReason::Blocks)
            }
            (Sharing::Block(_), _) => Err(FloatReason::Blocks),
        }
    }

    fn blocks(&self, len: usize) -> Option<Granularity> {
        let block = Block::new(u32::try_from(len).ok()?)?;
        Some(Granularity::PerBlock(match self.scale_dtype {
            Dtype::F16 => block.with_f16_scales(),
            Dtype::BF16 => block.with_bf16_scales(),
            _ => block,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(
        (shape, bits, sharing): (&[usize], usize, Sharing),
        zero_points: &[i16],
        scales: &[f32],
    ) -> String {
        let (shape, zero_points) = (shape.into(), zero_points.into());
        let integers = Integers {
            shape,
            bits,
            sharing,
            scale_dtype: Dtype::F16,
            zero_points,
            over_minimums: false,
        };
        match integers.scheme(|| Ok(scales.into())).unwrap() {
            Ok(scheme) => scheme.to_string(),
            Err(reason) => reason.to_string(),
        }
    }

    #[test]
    fn elements_that_share_a_scale_decide_on_the_granularity() {
        for (shape, sharing, expected) in [
            (&[4, 64][..], Sharing::Tensor, "per-tensor-full-range-int4"),
            (&[4, 64], Sharing::Block([1, 64]), "per-channel-full-range-int4"),
            (&[4, 64], Sharing::Block([1, 32]), "per-block-full-range-int4:scale=f16"),
            (&[4, 60], Sharing::Block([1, 32]), "per-block-full-range-int4:scale=f16"),
            (&[1, 64], Sharing::Block([128, 32]), "per-block-full-range-int4:scale=f16"),
            (&[2, 4, 64], Sharing::Block([1, 64]), "per-block-full-range-int4:len=64:scale=f16"),
            (&[2, 4, 64], Sharing::Block([4, 64]), "per-channel-full-range-int4"),
            (&[2, 4, 64], Sharing::Block([2, 64]), "its scales belong to more than one row"),
            (&[4, 64], Sharing::Block([128, 128]), "its scales belong to more than one row"),
            (&[4, 64], Sharing::Scattered, "its columns are not in the order of their groups"),
            (&[0, 64], Sharing::Block([1, 64]), "it has no elements"),
        ] {
            assert_eq!(scheme((shape, 4, sharing), &[], &[]), expected, "{shape:?} {sharing:?}");
        }
    }

    #[test]
    fn zero_points_and_scales_decide_on_the_mapping() {
        let block = Sharing::Block([1, 2]);
        let matrix = (&[1, 4][..], 4, block);
        let affine = "per-block-affine-int4:len=2:scale=f16";
        assert_eq!(scheme(matrix, &[0, 7], &[0.5, 1.0]), affine);
        // Any finite scale, which is not read.
        let full_range = "per-block-full-range-int4:len=2:scale=f16";
        assert_eq!(scheme(matrix, &[0, 0], &[f32::NAN]), full_range);
        assert_eq!(scheme(matrix, &[-9, 0], &[1.0, 1.0]), "its zero point -9 is no code");
        assert_eq!(scheme(matrix, &[8, 0], &[1.0, 1.0]), "its zero point 8 is no code");
        for scale in [0.0, -1.0, f32::NAN, 2f32.powi(-20)] {
            let reason = "one of its scales is not a positive normal number";
            assert_eq!(scheme(matrix, &[1, 0], &[1.0, scale]), reason);
        }
        assert_eq!(scheme((&[1, 4], 1, block), &[], &[]), "no scheme has codes of 1 bit");
    }
}
