//! Reading a whole file.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use quant::__private::check_len;
use quant::ParamId;
use quant::QuantizationScheme;
use quant::RecordError;
use quant::Tensor;
use quant::record::{Record, RecordFormatError, RecordState};
use quant::scheme::{bf16_to_f32, f16_to_f32, f32_to_f16, packing};
use quant::tensor::{FloatType, QuantizedTensor, SharedTensor, TensorError};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::FORMAT;
use super::error::JsonError;

/// Parses a checkpoint.
pub(crate) fn parse(text: &[u8]) -> Result<Record, RecordError> {
    let file: File<'_> =
        serde_json::from_slice(text).map_err(|error| JsonError::Json { source: error.into() })?;
    if file.format != FORMAT {
        let found = file.format.chars().take(100).collect();
        return Err(JsonError::Format { found }.into());
    }
    let mut record = Record::new();
    for (key, value) in file.metadata.unique()? {
        record.insert_metadata(key, value);
    }
    for (name, raw) in file.tensors.unique()? {
        let tensor = raw.tensor(&name)?;
        record.insert(name, tensor);
    }
    for (name, RawState { kind, bytes }) in file.states.unique()? {
        let id = ParamId::new(name);
        let data = unhex(&bytes).ok_or_else(|| JsonError::Hex { id: id.clone() })?;
        record.insert_state(RecordState { id, kind, data });
    }
    Ok(record)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    format: String,
    metadata: Pairs<String>,
    states: Pairs<RawState>,
    #[serde(borrow)]
    tensors: Pairs<RawTensor<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawState {
    kind: String,
    bytes: String,
}

/// Numbers stay text until they are parsed as f32: parsed as f64, some would be rounded twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor<'a> {
    #[serde(default, rename = "type")]
    float_type: RawType,
    shape: Vec<usize>,
    #[serde(borrow, default)]
    values: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    scheme: Option<String>,
    #[serde(borrow, default)]
    scales: Vec<&'a RawValue>,
    #[serde(default)]
    zero_points: Vec<i8>,
    #[serde(borrow, default)]
    minimums: Vec<&'a RawValue>,
    #[serde(default)]
    codes: Option<Vec<i8>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawType {
    #[default]
    F32,
    F16,
    Bf16,
}

impl RawType {
    /// The float tensor of these values, which this type has to have.
    fn tensor(self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Tensor, RecordError> {
        type Narrow = fn(f32) -> u16;
        type Widen = fn(u16) -> f32;
        let (ty, narrow, widen): (_, Narrow, Widen) = match self {
            Self::F32 => return Ok(Tensor::from_values(shape, values).map_err(in_tensor(name))?),
            Self::F16 => (FloatType::F16, f32_to_f16, f16_to_f32),
            // What does not end in zeros is found below.
            Self::Bf16 => (FloatType::Bf16, |value| (value.to_bits() >> 16) as u16, bf16_to_f32),
        };
        let bits: Vec<u16> = values.iter().map(|&value| narrow(value)).collect();
        let same = |(&bits, value): (&u16, &f32)| widen(bits).to_bits() == value.to_bits();
        if let Some(other) = bits.iter().zip(&values).position(|pair| !same(pair)) {
            let value = format!("{} in {ty}", values[other]);
            return Err(JsonError::Value { id: name.into(), value }.into());
        }
        let made = SharedTensor::from_half_bits(shape, ty, bits).map_err(in_tensor(name))?;
        Ok(made.into())
    }
}

fn in_tensor(name: &str) -> impl Fn(TensorError) -> RecordFormatError {
    move |source| RecordFormatError::Tensor { id: name.into(), source }
}

impl RawTensor<'_> {
    fn tensor(self, name: &str) -> Result<Tensor, RecordError> {
        let id = || ParamId::new(name);
        let Self { float_type, shape, values, scheme, scales, zero_points, minimums, codes } = self;
        let made = match (values, scheme, codes) {
            (Some(values), None, None)
                if scales.is_empty() && zero_points.is_empty() && minimums.is_empty() =>
            {
                return float_type.tensor(name, &shape, floats(name, &values)?);
            }
            (None, Some(scheme), Some(codes)) => {
                let scheme =
                    scheme.parse().map_err(|source| JsonError::Scheme { id: id(), source })?;
                check_codes(&codes, scheme)
                    .map_err(|code| JsonError::Value { id: id(), value: code.to_string() })?;
                let (scales, minimums) = (floats(name, &scales)?, floats(name, &minimums)?);
                quantized(&shape, scheme, &codes, scales, (zero_points, minimums))
            }
            _ => {
                let value = "neither `values` nor `scheme`, `scales` and `codes`".into();
                return Err(JsonError::Value { id: id(), value }.into());
            }
        };
        Ok(made.map_err(in_tensor(name))?)
    }
}

/// Checks that codes are in the range of the scheme; the error is the first that is not.
fn check_codes(codes: &[i8], scheme: QuantizationScheme) -> Result<(), i8> {
    let (qmin, qmax) = scheme.quantization_type().code_range(scheme.mapping());
    match codes.iter().find(|&&code| !(qmin..=qmax).contains(&i32::from(code))) {
        Some(&code) => Err(code),
        None => Ok(()),
    }
}

fn quantized(
    shape: &[usize],
    scheme: QuantizationScheme,
    codes: &[i8],
    scales: Vec<f32>,
    (zero_points, minimums): (Vec<i8>, Vec<f32>),
) -> Result<Tensor, TensorError> {
    // Before rows are packed, whose length is a claim of the file.
    check_len(shape, codes.len())?;
    let row = shape.last().copied().unwrap_or(1).max(1);
    let codes = packing::pack(codes, row, scheme.quantization_type());
    let made = if scheme.mapping().has_minimums() && zero_points.is_empty() {
        QuantizedTensor::with_minimums(shape, scheme, codes, scales, minimums)
    } else {
        QuantizedTensor::from_parts(shape, scheme, codes, scales, zero_points)
    };
    made.map(Tensor::from)
}

fn floats(name: &str, values: &[&RawValue]) -> Result<Vec<f32>, JsonError> {
    let float = |raw: &&RawValue| {
        float(raw.get()).ok_or_else(|| JsonError::Value {
            id: name.into(),
            value: raw.get().chars().take(100).collect(),
        })
    };
    values.iter().map(float).collect()
}

fn float(text: &str) -> Option<f32> {
    match text {
        "\"inf\"" => Some(f32::INFINITY),
        "\"-inf\"" => Some(f32::NEG_INFINITY),
        "\"nan\"" => Some(f32::NAN),
        _ => match text.strip_prefix("\"nan 0x") {
            Some(bits) => {
                let bits = u32::from_str_radix(bits.strip_suffix('"')?, 16).ok()?;
                Some(f32::from_bits(bits)).filter(|value| value.is_nan())
            }
            // A number that is too large is parsed as infinity, which JSON cannot express.
            None => text.parse().ok().filter(|value: &f32| value.is_finite()),
        },
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    // `from_str_radix` accepts a sign.
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// A map in the order of the file, with keys that may repeat.
struct Pairs<T>(Vec<(String, T)>);

impl<T> Pairs<T> {
    /// The pairs, whose keys must be unique.
    fn unique(self) -> Result<Vec<(String, T)>, JsonError> {
        let mut seen = HashSet::new();
        match self.0.iter().find(|(key, _)| !seen.insert(key)) {
            Some((key, _)) => Err(JsonError::DuplicateName { id: key.as_str().into() }),
            None => Ok(self.0),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
