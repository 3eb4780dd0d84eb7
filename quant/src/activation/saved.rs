//! The mode of an activation as it stands in a record: `activation/1` of `docs/record-format.md`.
//!
//! ```text
//! dynamic     0  mapping  per row
//! static      1  mapping  bits  zero point  scale (f32)
//! observing   2  mapping  bits  skip  skipped (u64)  method (string)  observer
//! training    3  phase  zero point  then as observing, with its 2
//! ```
//!
//! Every field is a byte unless it says otherwise; numbers are little-endian.

use super::quantizer::{Fixed, Observation, State};
use crate::calibration::{AnyObserver, CalibrationMethod};
use crate::kernel::Dynamic;
use crate::scheme::{Mapping, QuantParams, QuantizationType};

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
        State::Dynamic(Dynamic { mapping, per_row }) => {
            Some(vec![0, mapping_byte(*mapping), (*per_row).into()])
        }
        State::Static(Fixed { ty, mapping, params }) => {
            let mut bytes = vec![1, mapping_byte(*mapping), ty.bits() as u8];
            bytes.push(params.zero_point as u8);
            bytes.extend(params.scale.to_le_bytes());
            Some(bytes)
        }
        State::Observing(seen) => observation(&super::quantizer::locked(seen)),
        #[cfg(feature = "candle")]
        State::Training(training) => {
            let mut bytes = vec![3, training.phase as u8, training.zero_point as u8];
            bytes.extend(observation(&super::quantizer::locked(&training.seen))?);
            Some(bytes)
        }
    }
}

fn observation(seen: &Observation) -> Option<Vec<u8>> {
    let Observation { ty, mapping, method, observer, skip_non_finite, skipped } = seen;
    let mut bytes = vec![2, mapping_byte(*mapping), ty.bits() as u8, (*skip_non_finite).into()];
    bytes.extend(skipped.to_le_bytes());
    bytes.extend(bincode::serde::encode_to_vec((method, observer), config()).ok()?);
    Some(bytes)
}

fn mapping_byte(mapping: Mapping) -> u8 {
    match mapping {
        Mapping::Symmetric => 0,
        Mapping::Affine => 1,
    }
}

/// The mode that `bytes` say, or why they say none.
pub(super) fn decode(bytes: &[u8]) -> Result<State, String> {
    match *bytes {
        [0, mapping, per_row] => {
            let per_row = flag(per_row)?;
            Ok(State::Dynamic(Dynamic { mapping: read_mapping(mapping)?, per_row }))
        }
        [1, mapping, bits, zero_point, a, b, c, d] => {
            let params = QuantParams {
                scale: f32::from_le_bytes([a, b, c, d]),
                zero_point: zero_point as i8,
            };
            let (ty, mapping) = (read_type(bits)?, read_mapping(mapping)?);
            checked(Fixed { ty, mapping, params }).map(State::Static)
        }
        [2, mapping, bits, skip, ref rest @ ..] => {
            let (skipped, rest) =
                rest.split_first_chunk().ok_or("the activation's state ends too early")?;
            let ((method, observer), read): ((CalibrationMethod, AnyObserver), usize) =
                bincode::serde::decode_from_slice(rest, config()).map_err(|e| e.to_string())?;
            if read != rest.len() {
                return Err("bytes follow the activation's state".into());
            }
            Ok(State::Observing(std::sync::Mutex::new(Observation {
                ty: read_type(bits)?,
                mapping: read_mapping(mapping)?,
                method,
                observer,
                skip_non_finite: flag(skip)?,
                skipped: u64::from_le_bytes(*skipped),
            })))
        }
        #[cfg(feature = "candle")]
        [3, phase, zero_point, ref rest @ ..] if rest.first() == Some(&2) => {
            training(phase, zero_point as i8, decode(rest)?)
        }
        #[cfg(not(feature = "candle"))]
        [3, _, _, 2, ..] => {
            Err("the activation is in training, which needs the feature `candle`".into())
        }
        _ => Err("the activation's state is of no known form".into()),
    }
}

/// The state of training, around that of an observing activation.
#[cfg(feature = "candle")]
fn training(phase: u8, zero_point: i8, seen: State) -> Result<State, String> {
    use crate::training::Phase;
    let State::Observing(seen) = seen else {
        return Err("an activation in training has observed nothing".into());
    };
    let phase = Phase::ALL.get(usize::from(phase)).copied();
    let phase = phase.ok_or("the activation is in no known phase of training")?;
    let (qmin, qmax) = super::quantizer::locked(&seen).grid().code_range();
    if !(qmin..=qmax).contains(&zero_point.into()) {
        return Err(format!("the activation's zero point is {zero_point}, which is no code"));
    }
    Ok(State::Training(Box::new(super::training::Training {
        seen,
        phase,
        scale: None,
        zero_point,
    })))
}

fn flag(byte: u8) -> Result<bool, String> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(format!("{byte} stands where the activation's state has 0 or 1")),
    }
}

fn read_mapping(byte: u8) -> Result<Mapping, String> {
    flag(byte).map(|affine| if affine { Mapping::Affine } else { Mapping::Symmetric })
}

fn read_type(bits: u8) -> Result<QuantizationType, String> {
    QuantizationType::from_bits(bits.into())
        .ok_or_else(|| format!("the activation's codes have {bits} bits"))
}

/// Parameters that a kernel can use.
fn checked(fixed: Fixed) -> Result<Fixed, String> {
    let QuantParams { scale, zero_point } = fixed.params;
    let (qmin, qmax) = fixed.ty.code_range(fixed.mapping);
    if !(scale.is_normal() && scale > 0.0) {
        return Err(format!("the activation's scale is {scale:e}, not a positive normal f32"));
    }
    let is_code = (qmin..=qmax).contains(&zero_point.into());
    if !is_code || fixed.mapping == Mapping::Symmetric && zero_point != 0 {
        return Err(format!("the activation's zero point is {zero_point}, which is no code"));
    }
    Ok(fixed)
}
