//! Observers: what they have seen does not depend on how it was shown to them.

use proptest::prelude::*;
use quant::calibration::{
    AnyObserver, Calibration, CalibrationMethod, EntropyCalibration, Histogram, MinMaxObserver,
    MovingAverageCalibration, MseCalibration, Observer, PercentileCalibration,
};
use quant::scheme::{Grid, Mapping, Range, ScaleType};
use quant::{MinMaxCalibration, QuantizationType};
use tests::random::Random;

const AFFINE8: Grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
const SYMMETRIC8: Grid = Grid::new(QuantizationType::QInt8, Mapping::Symmetric, ScaleType::F32);

fn seen<O: Observer>(mut observer: O, batches: &[&[f32]]) -> O {
    for batch in batches {
        observer.observe(batch).unwrap();
    }
    observer
}

fn merged<O: Observer + Clone>(a: &O, b: &O) -> O {
    let mut both = a.clone();
    both.merge(b);
    both
}

/// Standard normal values, by Box and Muller.
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let mut uniform = move || (random.bits() >> 11) as f64 / (1u64 << 53) as f64;
    (0..len)
        .map(|_| {
            let (u, v) = (1.0 - uniform(), uniform());
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        })
        .collect()
}

fn with_outliers() -> Vec<f32> {
    [normal(100_000, 1), vec![40.0, -35.0]].concat()
}

/// `Σ (x - x̂)² / n` over the range that `calibration` finds.
fn squared_error(values: &[f32], calibration: &impl Calibration, grid: Grid) -> f64 {
    let observer = seen(calibration.observer(), &[values]);
    let params = grid.params(calibration.range(&observer, grid).unwrap()).unwrap();
    let error = |&x: &f32| f64::from(x) - f64::from(params.dequantize(grid.quantize(x, params)));
    values.iter().map(|x| error(x).powi(2)).sum::<f64>() / values.len() as f64
}

/// Floats of every magnitude, zeros and ties among them.
fn any_values() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        4 => -10.0f32..10.0,
        1 => prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
    ];
    prop::collection::vec(value, 0..200)
}

/// Lists of values, and each of them cut into batches and put into another order.
fn values_and_batches() -> impl Strategy<Value = (Vec<f32>, Vec<f32>, Vec<usize>)> {
    let cuts = prop::collection::vec(0usize..200, 0..6);
    (any_values().prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())), cuts)
        .prop_map(|((values, shuffled), cuts)| (values, shuffled, cuts))
}

fn batches<'a>(values: &'a [f32], cuts: &[usize]) -> Vec<&'a [f32]> {
    let mut cuts: Vec<_> = cuts.iter().map(|&cut| cut.min(values.len())).collect();
    cuts.extend([0, values.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &values[ends[0]..ends[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn histograms_and_extremes_depend_on_the_multiset_alone(
        (values, shuffled, cuts) in values_and_batches()
    ) {
        let batches = batches(&shuffled, &cuts);
        prop_assert_eq!(
            seen(Histogram::default(), &[&values]),
            seen(Histogram::default(), &batches)
        );
        prop_assert_eq!(
            seen(MinMaxObserver::default(), &[&values]),
            seen(MinMaxObserver::default(), &batches)
        );
    }

    #[test]
    fn merging_is_associative_commutative_and_exact(
        a in any_values(), b in any_values(), c in any_values()
    ) {
        let parts = [&a, &b, &c].map(|values| seen(Histogram::default(), &[values]));
        let [a_, b_, c_] = &parts;
        prop_assert_eq!(merged(a_, b_), merged(b_, a_));
        prop_assert_eq!(merged(&merged(a_, b_), c_), merged(a_, &merged(b_, c_)));
        let whole = seen(Histogram::default(), &[&a, &b, &c]);
        prop_assert_eq!(merged(&merged(a_, b_), c_), whole);

        let [a_, b_, c_] = [&a, &b, &c].map(|values| seen(MinMaxObserver::default(), &[values]));
        prop_assert_eq!(merged(&a_, &b_), merged(&b_, &a_));
        prop_assert_eq!(merged(&merged(&a_, &b_), &c_), merged(&a_, &merged(&b_, &c_)));
    }

    #[test]
    fn histograms_survive_serialization(values in any_values()) {
        let histogram = seen(Histogram::default(), &[&values]);
        let text = serde_json::to_string(&histogram).unwrap();
        prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
    }

    #[test]
    fn counts_are_those_of_the_values_between_the_ends(values in any_values()) {
        let histogram = seen(Histogram::default(), &[&values]);
        prop_assert_eq!(histogram.count(), values.len() as u64);
        for bin in histogram.bins().filter(|bin| bin.count > 0) {
            let inside = |x: &&f32| (bin.start..bin.end).contains(&f64::from(**x));
            prop_assert_eq!(values.iter().filter(inside).count() as u64, bin.count);
        }
    }

    #[test]
    fn mse_is_never_worse_than_min_max_on_what_it_saw(
        values in prop::collection::vec(-10.0f32..10.0, 1..200), outlier in -300.0f32..300.0
    ) {
        let values = [values, vec![outlier]].concat();
        for ty in [QuantizationType::QInt8, QuantizationType::QInt4, QuantizationType::QInt2] {
            for mapping in [Mapping::Symmetric, Mapping::Affine] {
                let grid = Grid::new(ty, mapping, ScaleType::F32);
                let (mse, min_max) = (
                    squared_error(&values, &MseCalibration {}, grid),
                    squared_error(&values, &MinMaxCalibration {}, grid),
                );
                prop_assert!(mse <= min_max, "{} {}: {} > {}", ty, mapping, mse, min_max);
            }
        }
    }

    #[test]
    fn percentiles_are_within_a_bin_of_the_order_statistic(
        values in prop::collection::vec(-10.0f32..10.0, 1..500),
        percentile in prop::sample::select(vec![50.0, 90.0, 95.0, 99.0, 99.9, 100.0]),
    ) {
        check_percentile(&values, percentile);
    }
}

fn check_percentile(values: &[f32], percentile: f64) {
    let histogram = seen(Histogram::default(), &[values]);
    let bin = histogram.bin_width() as f32;
    let calibration = PercentileCalibration::new(percentile).unwrap();
    // In thousandths, so that the ranks are whole numbers.
    let outside = |sides: u64| {
        let thousandths = ((100.0 - percentile) * 1000.0).round() as u64;
        (thousandths * values.len() as u64 / (100_000 * sides)) as usize
    };
    let mut sorted: Vec<f32> = values.iter().map(|x| x.abs()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let symmetric = calibration.range(&histogram, SYMMETRIC8).unwrap().magnitude();
    assert!((symmetric - sorted[outside(1)]).abs() <= bin, "{symmetric}");

    sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let affine = calibration.range(&histogram, AFFINE8).unwrap();
    let (lo, hi) = (sorted[outside(2)], sorted[sorted.len() - 1 - outside(2)]);
    assert!((affine.lo() - lo.min(0.0)).abs() <= bin, "{affine:?} {lo}");
    assert!((affine.hi() - hi.max(0.0)).abs() <= bin, "{affine:?} {hi}");
}

/// 99.99 is no binary fraction: `1 - 99.99 / 100` is a little less than 1 / 10,000.
#[test]
fn percentiles_count_whole_values() {
    let spread: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
    for percentile in [99.999, 99.99, 99.9, 99.0] {
        check_percentile(&spread, percentile);
    }
}

#[test]
fn mse_finds_a_range_that_serves_the_many_beside_two_outliers() {
    let values = with_outliers();
    let mse = squared_error(&values, &MseCalibration {}, AFFINE8);
    let min_max = squared_error(&values, &MinMaxCalibration {}, AFFINE8);
    eprintln!("squared error: mse {mse:.6}, min-max {min_max:.6}");
    assert!(mse <= 0.0061, "{mse}");
    assert!(min_max > 0.007, "{min_max}");
}

#[test]
fn streamed_and_whole_weights_get_the_same_range() {
    let values = with_outliers();
    for name in ["min-max", "percentile:99.9", "entropy"] {
        let method: CalibrationMethod = name.parse().unwrap();
        let batches: Vec<&[f32]> = values.chunks(777).collect();
        let streamed = method.range(&seen(method.observer(), &batches), AFFINE8);
        assert_eq!(streamed, Some(method.weight_range(&values, AFFINE8).unwrap()), "{name}");
    }
}

#[test]
fn an_observer_that_saw_nothing_names_no_range() {
    for name in ["min-max", "moving-average", "percentile", "mse", "entropy"] {
        let method: CalibrationMethod = name.parse().unwrap();
        let observer = seen(method.observer(), &[&[], &[]]);
        assert_eq!(method.range(&observer, AFFINE8), None, "{name}");
        assert_eq!(method.weight_range(&[], AFFINE8), Ok(Range::ZERO), "{name}");
    }
}

#[test]
fn constant_and_extreme_values_have_a_range_by_every_method() {
    let samples: [&[f32]; 6] =
        [&[0.0], &[3.0], &[-1e-45], &[f32::MAX, f32::MIN], &[f32::MIN_POSITIVE], &[1e-30, 1e30]];
    for name in ["min-max", "moving-average", "percentile", "mse", "entropy"] {
        let method: CalibrationMethod = name.parse().unwrap();
        for values in samples {
            for grid in [AFFINE8, SYMMETRIC8] {
                let range = method.weight_range(values, grid).unwrap();
                assert!(grid.params(range).is_ok(), "{name} {values:?}");
            }
        }
    }
}

#[test]
fn a_batch_with_a_non_finite_value_leaves_no_trace() {
    for name in ["min-max", "moving-average", "percentile"] {
        let method: CalibrationMethod = name.parse().unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut observer = seen(method.observer(), &[&[1.0, -2.0]]);
            let before = observer.clone();
            let error = observer.observe(&[9.0, 9.0, value]).unwrap_err();
            assert_eq!((error.index, error.value.to_bits()), (2, value.to_bits()));
            assert_eq!(observer, before);
        }
    }
}

#[test]
fn every_observer_survives_serialization() {
    for name in ["min-max", "moving-average:0.25", "percentile"] {
        let method: CalibrationMethod = name.parse().unwrap();
        for batches in [&[][..], &[&[1.0f32, -2.5][..], &[0.1]]] {
            let observer = seen(method.observer(), batches);
            let text = serde_json::to_string(&observer).unwrap();
            assert_eq!(serde_json::from_str::<AnyObserver>(&text).unwrap(), observer, "{text}");
        }
    }
}

#[test]
fn damaged_histograms_are_refused() {
    for (text, complaint) in [
        (r#"{"lo":0.0,"hi":null,"counts":[]}"#, "both ends"),
        (r#"{"lo":null,"hi":null,"counts":[1]}"#, "both ends"),
        (r#"{"lo":0.0,"hi":1.0,"counts":[1]}"#, "do not fit"),
    ] {
        let error = serde_json::from_str::<Histogram>(text).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[test]
fn averages_of_batches_at_both_ends_of_f32_are_finite() {
    let range = |constant: f32, batches: &[&[f32]]| {
        let calibration = MovingAverageCalibration::new(constant).unwrap();
        let observer = seen(calibration.observer(), batches);
        let text = serde_json::to_string(&observer).unwrap();
        assert_eq!(serde_json::from_str(&text).ok(), Some(observer), "{text}");
        calibration.range(&observer, AFFINE8).unwrap()
    };
    let far = range(0.01, &[&[-3e38], &[3e38]]);
    assert_eq!(far.hi(), 0.0);
    assert!((far.lo() / -2.94e38 - 1.0).abs() < 1e-6, "{far:?}");
    for constant in [f32::MIN_POSITIVE, 0.01, 0.5, 0.99, 1.0] {
        for ends in [[f32::MIN, f32::MAX], [f32::MAX, f32::MIN], [-3e38, f32::MAX]] {
            let [first, last] = ends.map(|end| [end]);
            range(constant, &[&first, &last, &first, &last]);
        }
    }
    // The second batch takes the place of the first.
    assert_eq!(range(1.0, &[&[f32::MIN], &[f32::MAX]]), Range::new(0.0, f32::MAX).unwrap());
}

#[test]
fn averages_with_a_constant_out_of_range_are_refused() {
    for constant in ["0.0", "-0.5", "1.5"] {
        let text = format!(
            r#"{{"moving-average":{{"constant":{constant},"batches":1,"lo":0.0,"hi":1.0}}}}"#
        );
        let error = serde_json::from_str::<AnyObserver>(&text).unwrap_err();
        assert!(error.to_string().contains("the constant"), "{error}");
    }
}

#[test]
fn merging_averages_weighs_by_batches_whichever_came_first() {
    let calibration = MovingAverageCalibration::new(0.5).unwrap();
    let a = seen(calibration.observer(), &[&[0.0, 4.0], &[0.0, 4.0], &[0.0, 4.0]]);
    let b = seen(calibration.observer(), &[&[-8.0, 8.0]]);
    assert_eq!(merged(&a, &b).averages(), Some((-2.0, 5.0)));
    assert_eq!(merged(&a, &b), merged(&b, &a));
    assert_eq!(merged(&a, &calibration.observer()), a);
    assert_eq!(merged(&calibration.observer(), &a), a);
}

#[test]
fn an_observer_of_another_kind_is_not_merged_and_names_no_range() {
    let (min_max, entropy): (CalibrationMethod, CalibrationMethod) =
        (CalibrationMethod::default(), CalibrationMethod::Entropy(EntropyCalibration {}));
    let seen = seen(min_max.observer(), &[&[1.0]]);
    assert_eq!(entropy.range(&seen, AFFINE8), None);
    assert_eq!(merged(&seen, &entropy.observer()), seen);
}

#[test]
fn names_are_read_back_and_wrong_ones_list_what_there_is() {
    for name in [
        "min-max",
        "moving-average",
        "moving-average:0.1",
        "percentile",
        "percentile:99.5",
        "mse",
        "entropy",
    ] {
        assert_eq!(name.parse::<CalibrationMethod>().unwrap().to_string(), name);
    }
    for name in [
        "",
        "minmax",
        "mse:1",
        "percentile:",
        "percentile:0",
        "percentile:101",
        "percentile:NaN",
        "moving-average:0",
        "moving-average:2",
        "entropy:",
    ] {
        let error = name.parse::<CalibrationMethod>().unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(&format!("`{name}` is not a calibration; ")), "{error}");
        let expected = match name.split_once(':') {
            Some(("percentile", _)) => "greater than 0 and at most 100",
            Some(("moving-average", _)) => "greater than 0 and at most 1",
            _ => "expected min-max, moving-average",
        };
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn settings_out_of_range_are_refused_in_code_and_in_files() {
    assert!(PercentileCalibration::new(0.0).is_none());
    assert!(PercentileCalibration::new(f64::NAN).is_none());
    assert!(MovingAverageCalibration::new(1.5).is_none());
    let error = serde_json::from_str::<PercentileCalibration>("100.5").unwrap_err();
    assert!(error.to_string().contains("a percentile is above 0 and at most 100"));
    let error = serde_json::from_str::<MovingAverageCalibration>("0.0").unwrap_err();
    assert!(error.to_string().contains("above 0 and at most 1"));
}
