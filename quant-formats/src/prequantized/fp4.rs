//! Floats of 4 bits, two in a byte, the first in the low bits: MXFP4 and NVFP4.
//!
//! ```text
//! gpt-oss             X_blocks U8 [experts, out, groups, 16]   X_scales U8 [experts, out, groups]
//! compressed-tensors  weight_packed U8 [out, in / 2]           weight_scale U8 [out, in / 32]
//!                     or F8_E4M3 [out, in / 16], divided by weight_global_scale [1]
//! ModelOpt            weight U8 [out, in / 2]                  weight_scale F8_E4M3 [out, in / 16],
//!                                                              multiplied by weight_scale_2 []
//! ```
//!
//! A scale of type U8 or `F8_E8M0` is a power of two. In gpt-oss, the float tensor has its last two
//! axes the other way round, `[experts, in, out]`.

use quant::RecordError;

use super::codes::transposed;
use super::component::{Component, Reader};
use super::recognize::Found;
use super::small_float::e2m1;
use crate::method::{Method, Refusal};
use crate::safetensors::Dtype;

#[derive(Debug)]
pub(super) struct Fp4 {
    codes: Component,
    scales: Component,
    /// The scale of the tensor.
    global: Option<(Component, Global)>,
    /// The values that share a scale.
    group_len: usize,
    /// The shape before the last two axes are swapped, if they are.
    shape: Vec<usize>,
    is_swapped: bool,
}

/// What is done with the scale of the tensor.
#[derive(Clone, Copy, Debug)]
enum Global {
    Divide,
    Multiply,
}

impl Fp4 {
    pub(super) fn plan(found: &Found<'_>) -> Result<Self, Refusal> {
        let (codes, is_blocks) = (found.codes, found.part("_scales").is_some());
        let scales = found.need(if is_blocks { "_scales" } else { "_scale" })?;
        codes.check(codes.dtype == Dtype::U8)?;
        let global = match (found.part("_global_scale"), found.part("_scale_2")) {
            (Some(scale), _) => Some((scale.clone(), Global::Divide)),
            (None, Some(scale)) => Some((scale.clone(), Global::Multiply)),
            (None, None) => None,
        };
        if let Some((scale, _)) = &global {
            scale.check(scale.is_float() && scale.len() == 1)?;
        }
        let is_scale = |it: &Component| match found.method {
            Method::Nvfp4 => it.dtype == Dtype::F8_E4M3,
            _ => matches!(it.dtype, Dtype::U8 | Dtype::F8_E8M0),
        };
        scales.check(is_scale(scales))?;
        let group_len = if found.method == Method::Nvfp4 { 16 } else { 32 };
        let shape = shape(codes, scales, is_blocks, group_len).ok_or_else(|| scales.misfit())?;
        let (codes, scales) = (codes.clone(), scales.clone());
        Ok(Self {
            codes,
            scales,
            global,
            group_len,
            is_swapped: is_blocks && shape.len() >= 2,
            shape,
        })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let [.., rows, columns] = &mut shape[..]
            && self.is_swapped
        {
            std::mem::swap(rows, columns);
        }
        shape
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        let (codes, mut scales) = (from.bytes(&self.codes)?, from.floats(&self.scales)?);
        if let Some((component, global)) = &self.global {
            let by = from.floats(component)?[0];
            let apply = |scale: &mut f32| match global {
                Global::Divide => *scale /= by,
                Global::Multiply => *scale *= by,
            };
            scales.iter_mut().for_each(apply);
        }
        let mut values = Vec::with_capacity(2 * codes.len());
        for (codes, scale) in codes.chunks(self.group_len / 2).zip(scales) {
            values.extend(
                codes.iter().flat_map(|&byte| [e2m1(byte) * scale, e2m1(byte >> 4) * scale]),
            );
        }
        match &self.shape[..] {
            [.., rows, columns] if self.is_swapped => Ok(swapped(&values, *rows, *columns)),
            _ => Ok(values),
        }
    }
}

/// The shape of the values, if scales and codes fit each other.
fn shape(
    codes: &Component,
    scales: &Component,
    is_blocks: bool,
    group_len: usize,
) -> Option<Vec<usize>> {
    let (&last, in_front) = codes.shape.split_last()?;
    if is_blocks {
        let (&groups, rows) = in_front.split_last()?;
        let fits = last == group_len / 2 && scales.shape == in_front;
        return fits.then_some([rows, &[groups.checked_mul(group_len)?]].concat());
    }
    let columns = last.checked_mul(2)?;
    let groups = [in_front, &[columns / group_len]].concat();
    let fits = columns.is_multiple_of(group_len) && scales.shape == groups;
    fits.then_some([in_front, &[columns]].concat())
}

/// Each matrix of a stack with rows and columns swapped.
fn swapped(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let matrices = values.chunks((rows * columns).max(1));
    matrices.flat_map(|matrix| transposed(matrix, columns)).collect()
}
