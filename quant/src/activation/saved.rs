//! The mode of an activation as it stands in a record: `activation/1` of `docs/record-format.md`.
//!
//! ```text
//! dynamic     0  mapping  0: tensor, 1: row, or 2: block, and its length (u32)
//! static      1  mapping  bits  zero point  scale (f32)
//! observing   2  mapping  bits  skip  skipped (u64)  method (string)  observer
//! training    3  phase  zero point  then as observing, with its 2
//! pending     4  the name of the scheme, to the end
//! ```
//!
//! Every field is a byte unless it says otherwise; numbers are little-endian.

use super::observation::{Observation, locked};
use super::state::{Fixed, Observing, State};
use super::training::ActivationTraining;
use crate::calibration::{AnyObserver, CalibrationMethod};
use crate::scheme::{
    ActivationMapping, ActivationScheme, DynamicGranularity, DynamicQuantization, QuantParams,
    QuantizationType,
};
use core::num::NonZeroU32;

/// The name of the format in records.
pub(crate) const RECORD_KIND: &str = "activation/1";

/// The most bytes an observer may ask for: a histogram's counts, and little more.
const OBSERVER_LIMIT: usize = 1 << 18;

/// Fixed-width little-endian integers, as in the header of a record.
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<OBSERVER_LIMIT>()
}

/// The bytes of a mode; `None` when float, which is what no bytes mean.
pub(super) fn encode(state: &State) -> Option<Vec<u8>> {
    match state {
        State::Float => None,
        State::Dynamic(DynamicQuantization { mapping, granularity }) => {
            let mut bytes = vec![0, mapping_byte(*mapping)];
            match granularity {
                DynamicGranularity::Tensor => bytes.push(0),
                DynamicGranularity::Row => bytes.push(1),
                DynamicGranularity::Block(len) => {
                    bytes.push(2);
                    bytes.extend(len.get().to_le_bytes());
                }
            }
            Some(bytes)
        }
        State::Static(Fixed { ty, mapping, params }) => {
            let mut bytes = vec![1, mapping_byte(*mapping), ty.bits() as u8];
            bytes.push(params.zero_point() as u8);
            bytes.extend(params.scale().to_le_bytes());
            Some(bytes)
        }
        State::Observing(Observing { seen, training: None, .. }) => observation(&locked(seen)),
        State::Observing(Observing { seen, training: Some(training), .. }) => {
            let [phase, zero_point] = training.save();
            let mut bytes = vec![3, phase, zero_point];
            bytes.extend(observation(&locked(seen))?);
            Some(bytes)
        }
        State::Pending(scheme) => {
            let mut bytes = vec![4];
            bytes.extend(scheme.to_string().into_bytes());
            Some(bytes)
        }
    }
}

fn observation(seen: &Observation) -> Option<Vec<u8>> {
    let Observation { ty, mapping, method, observer, skip_non_finite, skipped } = seen;
    let mut bytes = vec![2, mapping_byte(*mapping), ty.bits() as u8, (*skip_non_finite).into()];
    bytes.extend(skipped.to_le_bytes());
    bytes.extend(bincode::serde::encode_to_vec(method, config()).ok()?);
    bytes.extend(encode_observer(observer)?);
    Some(bytes)
}

/// The numbers of observers in records. They never change, even if the variants of [`AnyObserver`] do.
mod observer_tag {
    pub(super) const MIN_MAX: u32 = 0;
    pub(super) const MOVING_AVERAGE: u32 = 1;
    pub(super) const HISTOGRAM: u32 = 2;
}

fn encode_observer(observer: &AnyObserver) -> Option<Vec<u8>> {
    use bincode::serde::encode_to_vec;
    let encoded = match observer {
        AnyObserver::MinMax(seen) => encode_to_vec((observer_tag::MIN_MAX, seen), config()),
        AnyObserver::MovingAverage(seen) => {
            encode_to_vec((observer_tag::MOVING_AVERAGE, seen), config())
        }
        AnyObserver::Histogram(seen) => encode_to_vec((observer_tag::HISTOGRAM, seen), config()),
    };
    encoded.ok()
}

/// Decodes an observer that extends to the end of `bytes`.
fn decode_observer(bytes: &[u8]) -> Result<AnyObserver, String> {
    let (tag, rest) = bytes.split_first_chunk().ok_or("the activation's state ends too early")?;
    match u32::from_le_bytes(*tag) {
        observer_tag::MIN_MAX => decode_all(rest).map(AnyObserver::MinMax),
        observer_tag::MOVING_AVERAGE => decode_all(rest).map(AnyObserver::MovingAverage),
        observer_tag::HISTOGRAM => decode_all(rest).map(AnyObserver::Histogram),
        other => Err(format!("the activation's observer has the unknown number {other}")),
    }
}

fn decode_all<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (value, read) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|error| error.to_string())?;
    if read == bytes.len() { Ok(value) } else { Err("bytes follow the activation's state".into()) }
}

fn mapping_byte(mapping: ActivationMapping) -> u8 {
    match mapping {
        ActivationMapping::Symmetric => 0,
        ActivationMapping::Affine => 1,
    }
}

/// The mode that `bytes` describe, or why they describe none. `training` is what the quantizer has
/// attached.
pub(super) fn decode(
    bytes: &[u8],
    training: Option<Box<dyn ActivationTraining>>,
) -> Result<State, String> {
    match *bytes {
        [0, mapping, per_row] => {
            let granularity = match flag(per_row)? {
                true => DynamicGranularity::Row,
                false => DynamicGranularity::Tensor,
            };
            Ok(State::Dynamic(DynamicQuantization { mapping: read_mapping(mapping)?, granularity }))
        }
        [0, mapping, 2, a, b, c, d] => {
            let len = NonZeroU32::new(u32::from_le_bytes([a, b, c, d]));
            let len = len.ok_or("a block of an activation has no elements")?;
            let (mapping, granularity) = (read_mapping(mapping)?, DynamicGranularity::Block(len));
            Ok(State::Dynamic(DynamicQuantization { mapping, granularity }))
        }
        [1, mapping, bits, zero_point, a, b, c, d] => {
            let scale = f32::from_le_bytes([a, b, c, d]);
            let params = QuantParams::new(scale, zero_point as i8).map_err(|_| {
                format!("the activation's scale is {scale:e}, not a positive normal f32")
            })?;
            let (ty, mapping) = (read_type(bits)?, read_mapping(mapping)?);
            checked(Fixed { ty, mapping, params }).map(State::Static)
        }
        [2, ref rest @ ..] => Ok(State::Observing(Observing::new(read_observation(rest)?))),
        [3, phase, zero_point, 2, ref rest @ ..] => {
            let mut training = training.ok_or(
                "the activation is in training; load it by `Qat::restore`, which continues that",
            )?;
            let seen = read_observation(rest)?;
            training.load([phase, zero_point], &seen)?;
            Ok(State::Observing(Observing { training: Some(training), ..Observing::new(seen) }))
        }
        [4, ref name @ ..] => {
            let name = core::str::from_utf8(name).map_err(|error| error.to_string())?;
            let scheme: ActivationScheme =
                name.parse().map_err(|error| format!("the activation is pending: {error}"))?;
            Ok(State::Pending(scheme))
        }
        _ => Err("the activation's state has an unknown form".into()),
    }
}

/// An observation, after its leading 2.
fn read_observation(bytes: &[u8]) -> Result<Observation, String> {
    let &[mapping, bits, skip, ref rest @ ..] = bytes else {
        return Err("the activation's state ends too early".into());
    };
    let (skipped, rest) =
        rest.split_first_chunk().ok_or("the activation's state ends too early")?;
    let (method, read): (CalibrationMethod, usize) =
        bincode::serde::decode_from_slice(rest, config()).map_err(|error| error.to_string())?;
    let observer = decode_observer(&rest[read..])?;
    Ok(Observation {
        ty: read_type(bits)?,
        mapping: read_mapping(mapping)?,
        method,
        observer,
        skip_non_finite: flag(skip)?,
        skipped: u64::from_le_bytes(*skipped),
    })
}

fn flag(byte: u8) -> Result<bool, String> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(format!("{byte} stands where the activation's state has 0 or 1")),
    }
}

fn read_mapping(byte: u8) -> Result<ActivationMapping, String> {
    flag(byte)
        .map(|affine| if affine { ActivationMapping::Affine } else { ActivationMapping::Symmetric })
}

fn read_type(bits: u8) -> Result<QuantizationType, String> {
    QuantizationType::from_bits(bits.into())
        .ok_or_else(|| format!("the activation's codes have {bits} bits"))
}

/// Parameters that a kernel can use.
fn checked(fixed: Fixed) -> Result<Fixed, String> {
    let zero_point = fixed.params.zero_point();
    let (qmin, qmax) = fixed.ty.code_range(fixed.mapping.into());
    let is_code = (qmin..=qmax).contains(&zero_point.into());
    if !is_code || fixed.mapping == ActivationMapping::Symmetric && zero_point != 0 {
        return Err(format!("the activation's zero point is {zero_point}, which is no code"));
    }
    Ok(fixed)
}
