//! Compatibility with activation states of version 1: the committed record has dynamic and static
//! activations and every kind of observer, with and without data.
//!
//! `QUANT_BLESS=1` rewrites the fixture, which is only right before a version is released.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use quant::activation::{ActivationMode, ActivationQuantizer};
use quant::record::Recorder;
use quant::scheme::{ActivationMapping, ActivationScheme};
use quant::{BincodeRecorder, Module, QuantizationType, Recipe};

type Activations = BTreeMap<String, ActivationQuantizer>;

/// Two batches. The NaN is skipped.
fn batches() -> [Vec<f32>; 2] {
    [vec![-0.25, 0.5, f32::NAN], vec![0.125, 0.75]]
}

fn observing(method: &str, batches: impl IntoIterator<Item = Vec<f32>>) -> ActivationQuantizer {
    let scheme = ActivationScheme::Static {
        ty: QuantizationType::QInt8,
        mapping: ActivationMapping::Affine,
    };
    let recipe = Recipe::new()
        .activations(scheme)
        .activation_calibration(method.parse().unwrap())
        .skip_non_finite();
    ActivationQuantizer::new()
        .calibrate(&recipe, batches, |activation, batch| {
            activation.observe(&batch).unwrap();
            Ok::<_, Infallible>(())
        })
        .unwrap()
}

/// The content of `fixtures/record-v1-activations.quant`.
fn activations() -> Activations {
    let dynamic = Recipe::new().activations(ActivationScheme::DYNAMIC);
    let dynamic = ActivationQuantizer::new().prepare(&dynamic).unwrap();
    // The least magnitudes have few bins, which keeps the fixture small.
    let tiny = || [vec![-2.0 * f32::from_bits(1), 5.0 * f32::from_bits(1)]];
    let mut all = Activations::from([
        ("dynamic".into(), dynamic),
        ("float".into(), ActivationQuantizer::new()),
        ("static".into(), observing("min-max", batches()).convert().unwrap()),
        ("mse".into(), observing("mse", batches())),
    ]);
    for method in ["min-max", "moving-average:0.25", "percentile:99.5", "mse", "entropy"] {
        let name = method.split(':').next().unwrap();
        all.insert(format!("{name}.tiny"), observing(method, tiny()));
        all.insert(format!("{name}.unseen"), observing(method, []));
    }
    for method in ["min-max", "moving-average:0.25"] {
        all.insert(method.split(':').next().unwrap().into(), observing(method, batches()));
    }
    all
}

fn fixture() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/record-v1-activations.quant");
    if std::env::var_os("QUANT_BLESS").is_some() {
        activations().save_file(&path, &BincodeRecorder::default()).unwrap();
    }
    path
}

/// The names of [`activations`], as a fresh model.
fn fresh() -> Activations {
    activations().into_keys().map(|name| (name, ActivationQuantizer::new())).collect()
}

#[test]
fn version_1_activations_load() {
    let loaded = fresh().load_file(fixture(), &BincodeRecorder::default()).unwrap();
    let expected = activations();
    for (name, activation) in &loaded {
        assert_eq!(activation.mode(), expected[name].mode(), "{name}");
        assert_eq!(activation.skipped(), expected[name].skipped(), "{name}");
    }
    let ActivationMode::Static(fixed) = loaded["static"].mode() else { panic!("not static") };
    // From -0.25 to 0.75: 255 steps.
    assert_eq!((fixed.params.scale(), fixed.params.zero_point()), (1.0 / 255.0, -64));
}

#[test]
fn version_1_activations_are_written_byte_for_byte() {
    let expected = std::fs::read(fixture()).unwrap();
    let saved = |model: Activations| model.save_bytes(&BincodeRecorder::default()).unwrap();
    assert!(saved(activations()) == expected, "the writer has changed");
    let loaded = fresh().load_file(fixture(), &BincodeRecorder::default()).unwrap();
    assert!(saved(loaded) == expected, "loading and saving has changed a state");
}

#[test]
fn observers_of_version_1_name_the_ranges_of_today() {
    let loaded = fresh().load_file(fixture(), &BincodeRecorder::default()).unwrap();
    let seen = |all: Activations| -> Activations {
        all.into_iter().filter(|(name, _)| !name.ends_with("unseen")).collect()
    };
    let (loaded, expected) = (seen(loaded).convert().unwrap(), seen(activations()));
    for (name, activation) in expected.convert().unwrap() {
        assert_eq!(loaded[&name].mode(), activation.mode(), "{name}");
    }
}

/// The numbers that `docs/record-format.md` gives to observers, as the bytes have them.
#[test]
fn every_observer_has_the_number_that_is_documented() {
    let record = BincodeRecorder::default().load_file(&fixture()).unwrap();
    let mut checked = 0;
    for state in record.states() {
        // Observing: 2, mapping, bits, skip, skipped, the method's name, then the observer.
        if state.data[0] != 2 {
            continue;
        }
        let len = u64::from_le_bytes(state.data[12..20].try_into().unwrap()) as usize;
        let method = std::str::from_utf8(&state.data[20..20 + len]).unwrap();
        let number = u32::from_le_bytes(state.data[20 + len..24 + len].try_into().unwrap());
        let expected = match method {
            "min-max" => 0,
            "moving-average:0.25" => 1,
            "percentile:99.5" | "mse" | "entropy" => 2,
            other => panic!("{other}"),
        };
        assert_eq!(number, expected, "{method}");
        checked += 1;
    }
    assert_eq!(checked, 13);
}
