//! bitsandbytes: positions in a table of 16 values, and the integers of `LLM.int8()`.
//!
//! ```text
//! weight                              U8 [⌈values / 2⌉, 1]  two in a byte, the first in the high bits
//! weight.quant_map                    F32 [16]              the table: NF4 or FP4
//! weight.absmax                       F32 [blocks]          the scale of each block of the values
//! weight.quant_state.bitsandbytes__…  U8                    JSON: shape, block length, and more
//! ```
//!
//! Scales may be quantized themselves: `absmax` is U8 then, positions in `nested_quant_map`, F32
//! [256], with a scale for each block in `nested_absmax`, F32, and one `nested_offset` in the JSON. A
//! value is `map[code] · absmax`, and a quantized scale `map[code] · absmax + offset`, each operation
//! rounded.
//!
//! ```text
//! weight         I8 [out, in]
//! SCB            F32 [out]
//! weight_format  U8 []         0: row by row
//! ```
//!
//! A value is `(code · SCB) · (1 / 127)`, each product rounded.

use quant::__private::element_count;
use quant::RecordError;
use serde_json::Value;

use super::component::{Component, Reader};
use super::recognize::Found;
use crate::method::Refusal;
use crate::safetensors::Dtype;

/// The longest description of a tensor that is read.
const STATE_LIMIT: u64 = 1 << 16;

#[derive(Debug)]
pub(super) struct Tabled {
    codes: Component,
    map: Component,
    scales: Scales,
    block: usize,
    shape: Vec<usize>,
}

#[derive(Debug)]
struct Scales {
    absmax: Component,
    nested: Option<Nested>,
}

/// How scales are quantized.
#[derive(Debug)]
struct Nested {
    absmax: Component,
    map: Component,
    offset: f32,
    block: usize,
}

impl Tabled {
    pub(super) fn plan(
        found: &Found<'_>,
        from: Reader<'_>,
    ) -> Result<Result<Self, Refusal>, RecordError> {
        let nf4 = found.part(".quant_state.bitsandbytes__nf4");
        let Some(state) = nf4.or_else(|| found.part(".quant_state.bitsandbytes__fp4")) else {
            return Ok(Err(Refusal::Ambiguous { what: "shape" }));
        };
        if state.dtype != Dtype::U8 || state.bytes > STATE_LIMIT {
            return Ok(Err(state.misfit()));
        }
        let json: Value = serde_json::from_slice(&from.bytes(state)?).unwrap_or_default();
        Ok(Self::of_state(found, &json, state))
    }

    fn of_state(found: &Found<'_>, json: &Value, state: &Component) -> Result<Self, Refusal> {
        let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
        let extents = json["shape"].as_array().into_iter().flatten().map(number);
        let shape: Option<Vec<usize>> = extents.collect();
        let shape = shape.filter(|it| !it.is_empty()).ok_or_else(|| state.misfit())?;
        let block_of = |key: &str| number(&json[key]).filter(|&len| len > 0);
        let block = block_of("blocksize").ok_or_else(|| state.misfit())?;
        let values = element_count(&shape).ok_or_else(|| state.misfit())?;
        let codes = found.codes;
        codes.check(codes.dtype == Dtype::U8 && codes.len() == values.div_ceil(2))?;
        let (map, absmax) = (found.need(".quant_map")?, found.need(".absmax")?);
        map.check(map.dtype == Dtype::F32 && map.len() == 16)?;
        absmax.check(absmax.len() == values.div_ceil(block))?;
        let nested = match absmax.dtype {
            Dtype::U8 => {
                let offset = json["nested_offset"].as_f64().ok_or_else(|| state.misfit())? as f32;
                let block = block_of("nested_blocksize").ok_or_else(|| state.misfit())?;
                let scales = found.need(".nested_absmax")?;
                let map = found.need(".nested_quant_map")?;
                map.check(map.dtype == Dtype::F32 && map.len() == 256)?;
                let blocks = absmax.len().div_ceil(block);
                scales.check(scales.dtype == Dtype::F32 && scales.len() == blocks)?;
                Some(Nested { absmax: scales.clone(), map: map.clone(), offset, block })
            }
            dtype => {
                absmax.check(dtype == Dtype::F32)?;
                None
            }
        };
        let scales = Scales { absmax: absmax.clone(), nested };
        Ok(Self { codes: codes.clone(), map: map.clone(), scales, block, shape })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        let (codes, map) = (from.bytes(&self.codes)?, from.floats(&self.map)?);
        let scales = self.scales.read(from)?;
        // Counted when the layout was planned.
        let len = element_count(&self.shape).unwrap_or(0);
        let codes = codes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]).take(len);
        let value = |(at, code): (usize, u8)| map[usize::from(code)] * scales[at / self.block];
        Ok(codes.enumerate().map(value).collect())
    }
}

impl Scales {
    fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        let Some(nested) = &self.nested else { return from.floats(&self.absmax) };
        let (map, scales) = (from.floats(&nested.map)?, from.floats(&nested.absmax)?);
        let codes = from.bytes(&self.absmax)?.into_iter().enumerate();
        let scale = |(at, code): (usize, u8)| {
            map[usize::from(code)] * scales[at / nested.block] + nested.offset
        };
        Ok(codes.map(scale).collect())
    }
}

#[derive(Debug)]
pub(super) struct Int8 {
    codes: Component,
    scales: Component,
}

impl Int8 {
    pub(super) fn plan(
        found: &Found<'_>,
        from: Reader<'_>,
    ) -> Result<Result<Self, Refusal>, RecordError> {
        if let Some(format) = found.part(".weight_format") {
            if format.dtype != Dtype::U8 || format.len() != 1 {
                return Ok(Err(format.misfit()));
            }
            let number = from.bytes(format)?[0];
            if number != 0 {
                return Ok(Err(Refusal::Variant { name: format!("weight_format {number}") }));
            }
        }
        Ok(Self::of_rows(found))
    }

    fn of_rows(found: &Found<'_>) -> Result<Self, Refusal> {
        let (codes, scales) = (found.codes, found.need(".SCB")?);
        let [rows, _] = codes.extents()?;
        scales.check(scales.dtype == Dtype::F32 && scales.shape == [rows])?;
        Ok(Self { codes: codes.clone(), scales: scales.clone() })
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        self.codes.shape.clone()
    }

    pub(super) fn read(&self, from: Reader<'_>) -> Result<Vec<f32>, RecordError> {
        const OF_127: f32 = 1.0 / 127.0;
        let (codes, scales) = (from.bytes(&self.codes)?, from.floats(&self.scales)?);
        let columns = self.codes.shape[1].max(1);
        let value = |scale: f32, byte: u8| f32::from(byte as i8) * scale * OF_127;
        let rows = codes.chunks(columns).zip(scales);
        Ok(rows.flat_map(|(row, scale)| row.iter().map(move |&byte| value(scale, byte))).collect())
    }
}
