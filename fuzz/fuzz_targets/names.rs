//! Names of schemes and calibrations: read, they are written to what reads the same.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use quant::calibration::CalibrationMethod;
use quant::scheme::ActivationScheme;
use quant::QuantizationScheme;

fn check<T: FromStr + Display + PartialEq + Debug>(name: &str) {
    if let Ok(value) = name.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value), "{name:?}");
    }
}

fuzz_target!(|name: &str| {
    check::<QuantizationScheme>(name);
    check::<ActivationScheme>(name);
    check::<CalibrationMethod>(name);
});
