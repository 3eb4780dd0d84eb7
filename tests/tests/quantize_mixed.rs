//! Mixed precision: the least expected error within a budget, and its words.

use std::error::Error;

use ndarray::Array2;
use proptest::prelude::*;
use quant::calibration::{Calibration, MseCalibration};
use quant::quantize::mixed;
use quant::quantize::mixed::{Budget, BudgetError, MixedPrecision, MixedPrecisionError, Precision};
use quant::quantize::mixed::{Offer, SelectError, Selection, select};
use quant::quantize::{Action, Reason, WeightError};
use quant::scheme::ActivationScheme;
use quant::{
    Module, Param, QuantizationScheme, QuantizationType, QuantizeError, Quantizer, Recipe, Rule,
};
use tests::errors::chain;
use tests::random::Random;

const INT8: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
const INT4: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt4);
const INT2: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt2);

fn offer(bytes: u64, error: f64) -> Offer {
    Offer::new(INT8.into(), bytes, error)
}

/// Every selection, by trying all.
fn brute_force(tensors: &[Vec<Offer>], budget: u64) -> Option<(f64, u64)> {
    let mut best: Option<(f64, u64)> = None;
    let mut choices = vec![0; tensors.len()];
    loop {
        let chosen = || tensors.iter().zip(&choices).map(|(offers, &choice)| &offers[choice]);
        let bytes: u64 = chosen().map(|offer| offer.bytes).sum();
        let error = chosen().fold(0.0, |sum, offer| sum + offer.error);
        if bytes <= budget && best.is_none_or(|best| (error, bytes) < best) {
            best = Some((error, bytes));
        }
        let Some(next) = (0..tensors.len()).find(|&i| choices[i] + 1 < tensors[i].len()) else {
            return best;
        };
        choices[..next].fill(0);
        choices[next] += 1;
    }
}

fn small_cases(
    error: impl Strategy<Value = f64> + Clone + 'static,
) -> impl Strategy<Value = (Vec<Vec<Offer>>, u64)> {
    let one = (0u64..40, error).prop_map(|(bytes, error)| offer(bytes, error));
    let tensors = prop::collection::vec(prop::collection::vec(one, 1..5), 0..7);
    (tensors, 0u64..200)
}

/// Sizes in ratios like those of schemes, and errors that fall with them.
fn model_like() -> impl Strategy<Value = (Vec<Vec<Offer>>, f64)> {
    let tensor = (1u64..5, 0.01f64..100.0).prop_map(|(size, energy)| {
        [(32, 1.0), (17, 2.5), (9, 200.0), (10, 90.0)]
            .map(|(bytes, error)| offer(size * bytes, energy * error))
            .to_vec()
    });
    (prop::collection::vec(tensor, 1..7), 0.25f64..1.0)
}

fn check_against_brute_force(tensors: &[Vec<Offer>], budget: u64, tolerance: f64) {
    match (select(tensors, budget), brute_force(tensors, budget)) {
        (Ok(Selection { bytes, error, gap, .. }), Some((least, fewest))) => {
            assert!(bytes <= budget);
            assert_eq!(gap, 0.0);
            assert!((error - least).abs() <= tolerance * least, "{error} against {least}");
            if tolerance == 0.0 {
                assert_eq!(bytes, fewest);
            }
        }
        (Err(SelectError::BudgetTooSmall { smallest, .. }), None) => {
            assert!(smallest > budget);
            assert!(select(tensors, smallest).is_ok());
        }
        (selected, brute) => panic!("{selected:?} against {brute:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_selection_is_that_of_brute_force(
        (tensors, budget) in small_cases((0u32..50).prop_map(f64::from))
    ) {
        check_against_brute_force(&tensors, budget, 0.0);
    }

    #[test]
    fn the_selection_is_that_of_brute_force_on_any_floats(
        (tensors, budget) in small_cases(prop_oneof![0.0..1.0, 0.0..1e60, 0.0..1e-60])
    ) {
        check_against_brute_force(&tensors, budget, 1e-13);
    }

    #[test]
    fn the_selection_is_that_of_brute_force_on_sizes_of_schemes(
        (tensors, share) in model_like()
    ) {
        let most: u64 = tensors.iter().map(|offers| offers[0].bytes).sum();
        check_against_brute_force(&tensors, (most as f64 * share) as u64, 1e-13);
    }

    #[test]
    fn the_selection_is_never_worse_than_a_uniform_one(
        tensors in prop::collection::vec(
            (1u64..100_000, prop::array::uniform4(0.0f64..1.0)), 1..80),
    ) {
        let tensors: Vec<_> = tensors
            .into_iter()
            .map(|(size, errors)| {
                let bytes = [8 * size, 4 * size + 4, 4 * size, 2 * size];
                std::array::from_fn::<_, 4, _>(|i| offer(bytes[i], errors[i] * 4f64.powi(i as i32)))
            })
            .collect();
        for position in 0..4 {
            let uniform = || tensors.iter().map(|offers| &offers[position]);
            let budget = uniform().map(|offer| offer.bytes).sum();
            let error = uniform().fold(0.0, |sum, offer| sum + offer.error);
            let selection = select(&tensors, budget).unwrap();
            prop_assert!(selection.bytes <= budget);
            prop_assert!(selection.error <= error);
            prop_assert_eq!(&selection, &select(&tensors, budget).unwrap());
        }
    }
}

/// A thousand tensors of six schemes: sizes repeat, as those of layers do, and errors do not.
fn thousand(repeat: bool) -> Vec<Vec<Offer>> {
    let mut random = Random(7);
    let mut noise = move || random.fraction();
    let mut tensor = |i: usize| {
        let size = if repeat { [1, 4, 4, 16][i % 4] << 16 } else { (noise() * 1e7) as u64 + 64 };
        let energy = size as f64 * (4.0 * noise()).exp();
        let bits = [(32, 0.0), (8, 1.0), (8, 0.8), (4, 300.0), (4, 180.0), (2, 9000.0)];
        let scales = [0, 4, 4096, 4096, size / 8, size / 16];
        std::array::from_fn::<_, 6, _>(|j| {
            let (bits, error) = bits[j];
            offer(size * bits / 8 + scales[j], error * energy * (0.8 + 0.4 * noise()))
        })
        .to_vec()
    };
    (0..1000).map(&mut tensor).collect()
}

#[test]
fn a_thousand_tensors_of_six_schemes_are_solved_exactly() {
    for repeat in [true, false] {
        let tensors = thousand(repeat);
        let most: u64 = tensors.iter().map(|offers| offers[0].bytes).sum();
        for percent in [9, 10, 12, 14, 20, 25, 26, 45, 90] {
            let selection = select(&tensors, most * percent / 100).unwrap();
            assert_eq!(selection.gap, 0.0, "{percent}% of sizes that repeat: {repeat}");
        }
    }
}

#[test]
fn ties_go_to_fewer_bytes_and_always_the_same_way() {
    let tensors = vec![vec![offer(4, 1.0), offer(8, 1.0), offer(4, 1.0)]; 5];
    let selection = select(&tensors, 1000).unwrap();
    assert_eq!((&*selection.choices, selection.bytes), (&[0; 5][..], 20));
    let halves = vec![vec![offer(8, 0.0), offer(4, 1.0)]; 4];
    let once = select(&halves, 24).unwrap();
    assert_eq!((once.bytes, once.error), (24, 2.0));
    assert_eq!(once, select(&halves, 24).unwrap());
}

#[test]
fn nothing_to_choose_is_a_selection_of_nothing() {
    let none: [Vec<Offer>; 0] = [];
    let selection = select(&none, 0).unwrap();
    assert_eq!((selection.choices.len(), selection.bytes, selection.error), (0, 0, 0.0));
}

#[test]
fn offers_that_cannot_be_selected_are_errors() {
    let small = [vec![offer(8, 1.0), offer(5, 2.0)], vec![offer(6, 0.0)]];
    let error = select(&small, 10).unwrap_err();
    assert_eq!(error, SelectError::BudgetTooSmall { budget: 10, smallest: 11 });
    assert_eq!(error.to_string(), "the budget is 10 bytes, but the least possible is 11");
    let none = [vec![offer(1, 1.0)], vec![]];
    let error = select(&none, 10).unwrap_err();
    assert_eq!(error, SelectError::NoOffer { tensor: 1 });
    assert_eq!(error.to_string(), "tensor 1 has no offers");
    for bad in [-1.0, f64::INFINITY, 1e101] {
        let error = select(&[[offer(1, 0.0), offer(2, bad)]], 10).unwrap_err();
        assert_eq!(error, SelectError::Error { tensor: 0, offer: 1, error: bad });
        assert!(error.to_string().starts_with("tensor 0: the error of offer 1 is "));
    }
    assert!(matches!(select(&[[offer(1, f64::NAN)]], 10), Err(SelectError::Error { .. })));
    let error = select(&[[offer(u64::MAX, 0.0)], [offer(1, 0.0)]], 10).unwrap_err();
    assert_eq!(error, SelectError::TooManyBytes);
    assert!(error.to_string().contains("too many"));
}

#[test]
fn budgets_have_units() {
    for (text, budget) in [
        ("45%", Budget::fraction(0.45).unwrap()),
        ("12.5 %", Budget::fraction(0.125).unwrap()),
        ("1000000", Budget::bytes(1_000_000)),
        ("18446744073709551615", Budget::bytes(u64::MAX)),
        ("12 bytes", Budget::bytes(12)),
        ("24MB", Budget::bytes(24_000_000)),
        ("24mib", Budget::bytes(24 << 20)),
        (" 0.5 kB ", Budget::bytes(500)),
        ("1KiB", Budget::bytes(1024)),
        ("2GB", Budget::bytes(2_000_000_000)),
        ("2GiB", Budget::bytes(2 << 30)),
    ] {
        assert_eq!(text.parse(), Ok(budget), "{text}");
        assert_eq!(budget.to_string().parse(), Ok(budget), "{budget}");
    }
    assert_eq!(Budget::fraction(0.57).unwrap().of(100), 57);
    assert_eq!(Budget::bytes(7).of(100), 7);
}

#[test]
fn what_is_no_budget_is_an_error() {
    for text in
        ["", "%", "MB", "12 parsecs", "-3", "1.5", "1e9", "0x10", "99999999999GB", "1.2.3MB"]
    {
        let error = text.parse::<Budget>().unwrap_err();
        assert_eq!(error, BudgetError::Unknown { text: text.into() });
        assert!(error.to_string().contains(text) && error.to_string().contains("45%"));
    }
    let error = "120%".parse::<Budget>().unwrap_err();
    assert_eq!(error, BudgetError::Percent { percent: 120.0 });
    assert_eq!(error.to_string(), "a budget of 120% is not above 0% and at most 100%");
    assert!("0%".parse::<Budget>().is_err());
    for fraction in [0.0, -0.5, 1.1, f64::NAN] {
        assert_eq!(Budget::fraction(fraction), None);
    }
}

#[test]
fn precisions_have_names() {
    for name in
        ["float", "per-tensor-affine-int3 by percentile:99", "per-block-symmetric-int4 by mse"]
    {
        assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
    }
    assert_eq!(INT8.to_string().parse(), Ok(Precision::from(INT8)));
    for (name, part) in [("Float", "scheme"), ("int9 by mse", "int9"), ("float by mse", "float")] {
        let error = name.parse::<Precision>().unwrap_err();
        assert_eq!(error.name(), name);
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.source().unwrap().is::<quant::scheme::NameError>());
    }
    let error = "per-tensor-affine-int3 by luck".parse::<Precision>().unwrap_err();
    assert!(error.to_string().contains("`luck` is not a calibration"), "{error}");
    assert!(error.source().unwrap().is::<quant::calibration::CalibrationNameError>());
}

#[test]
fn offers_are_what_plans_expect() {
    let weight = Array2::from_shape_fn((4, 8), |(i, j)| i as f32 - 0.3 * j as f32);
    let values = weight.as_slice().unwrap();
    let by_mse = Precision::new(INT2, "mse".parse().unwrap());
    let offers =
        mixed::offers(&"0".into(), &[4, 8], values, &[INT8.into(), by_mse, Precision::Float])
            .unwrap();
    assert_eq!(offers[2], Offer::float(128));
    let model = vec![Param::new(weight.clone())];
    let plan = Quantizer { calibration: MseCalibration {}, scheme: INT2 }.plan(&model).unwrap();
    assert_eq!(offers[1].bytes, plan.params()[0].bytes_after);
    assert_eq!(offers[1].expected, plan.params()[0].expected);
    let after = plan.apply(model).unwrap().dequantize();
    let noise: f64 =
        weight.iter().zip(after[0].value().iter()).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    assert!((offers[1].error - noise).abs() < 1e-9 * noise);
}

#[test]
fn offers_to_a_tensor_that_does_not_fit_are_errors() {
    let offers = |shape: &[usize], values: &[f32], scheme: &str| {
        mixed::offers(&"a.b".into(), shape, values, &[scheme.parse().unwrap()]).unwrap_err()
    };
    for (error, words) in [
        (offers(&[2, 2], &[1.0; 3], "per-tensor-symmetric-int8"), "values"),
        (offers(&[2], &[1.0, f32::NAN], "per-tensor-symmetric-int8"), "NaN"),
        (offers(&[2], &[1.0; 2], "per-channel-symmetric-int8:axis=1"), "axis"),
    ] {
        assert!(matches!(&error, QuantizeError::Param { id, .. } if *id == "a.b"));
        assert!(error.to_string().starts_with("a.b: cannot be quantized"), "{error}");
        assert!(chain(&error).contains(words), "{error}");
    }
}

#[derive(Clone, Debug, PartialEq, Module)]
struct Net {
    loud: Param<Array2<f32>>,
    quiet: Param<Array2<f32>>,
    bias: Param<Vec<f32>>,
    #[module(quantize)]
    flat: Param<Vec<f32>>,
    #[module(keep)]
    norm: Param<Array2<f32>>,
    #[module(scheme = "per-channel-affine-int4")]
    head: Param<Array2<f32>>,
    empty: Param<Array2<f32>>,
    #[module(rename = "odd*[name]")]
    odd: Param<Array2<f32>>,
}

fn matrix(by: f32) -> Param<Array2<f32>> {
    Param::new(Array2::from_shape_fn((16, 16), |(i, j)| by * ((i * 31 + j * 17) as f32).sin()))
}

fn net() -> Net {
    Net {
        loud: matrix(10.0),
        quiet: matrix(0.1),
        bias: Param::new(vec![1.0, 2.0]),
        flat: Param::new(vec![1.0, -1.0, 0.25, 0.3]),
        norm: matrix(1.0),
        head: matrix(2.0),
        empty: Param::new(Array2::zeros((0, 8))),
        odd: matrix(1.0),
    }
}

fn mixed(budget: &str) -> MixedPrecision {
    MixedPrecision::new(budget.parse().unwrap(), [INT8, INT4, INT2])
}

#[test]
fn a_mixed_plan_says_why_and_keeps_to_its_budget() {
    let mixed = mixed("1900").plan(&net()).unwrap();
    assert_eq!((mixed.budget, mixed.gap), (1900, 0.0));
    assert!(mixed.plan.bytes_after() <= 1900);
    let outcomes: Vec<_> = mixed
        .plan
        .params()
        .iter()
        .map(|param| (param.id.as_str(), param.action.to_string(), param.reason.clone()))
        .collect();
    let by = |scheme: QuantizationScheme| format!("{scheme} by min-max");
    let float = || "float".to_owned();
    let head = "per-channel-affine-int4 by min-max".to_owned();
    assert_eq!(
        outcomes,
        [
            ("loud", by(INT8), Reason::Budget),
            ("quiet", by(INT4), Reason::Budget),
            ("bias", float(), Reason::Rank(1)),
            ("flat", by(INT8), Reason::Budget),
            ("norm", float(), Reason::Attribute),
            ("head", head, Reason::Attribute),
            ("empty", float(), Reason::Empty),
            ("odd*[name]", by(INT8), Reason::Budget),
        ]
    );
    assert!(mixed.plan.to_string().contains("within the budget"));
}

#[test]
fn a_mixed_plan_is_no_worse_than_any_uniform_one() {
    for scheme in [INT8, INT4, INT2] {
        let uniform = MixedPrecision::new("100%".parse().unwrap(), [scheme]).plan(&net()).unwrap();
        let budget = uniform.plan.bytes_after().to_string();
        let chosen = mixed(&budget).plan(&net()).unwrap();
        assert!(chosen.plan.bytes_after() <= uniform.plan.bytes_after());
        assert!(chosen.error <= uniform.error);
    }
}

#[test]
fn a_choice_is_written_down_and_repeated() {
    let base = Recipe::new().rule(Rule::keep("loud")).activations(ActivationScheme::Float);
    let plan = mixed("50%").recipe(base).plan(&net()).unwrap().plan;
    assert_eq!(plan.params()[0].reason, Reason::Rule { rule: 0, pattern: "loud".into() });
    let recipe = plan.to_recipe().unwrap();
    let again: Recipe = toml::from_str(&toml::to_string(&recipe).unwrap()).unwrap();
    let repeated = again.plan(&net()).unwrap();
    let actions = |plan: &quant::Plan| -> Vec<Action> {
        plan.params().iter().map(|param| param.action.clone()).collect()
    };
    assert_eq!(actions(&repeated), actions(&plan));
    assert_eq!(repeated.apply(net()).unwrap(), plan.apply(net()).unwrap());
}

#[test]
fn a_precision_is_a_rule() {
    let rule = Precision::new(INT4, "mse".parse().unwrap()).rule(&"a[0]".into());
    assert_eq!(rule, Rule::quantize(r"a\[0\]", INT4).calibration("mse".parse().unwrap()));
    assert_eq!(Precision::Float.rule(&"a.b".into()), Rule::keep("a.b"));
}

#[test]
fn a_plan_by_a_calibration_of_ones_own_is_no_recipe() {
    #[derive(Clone)]
    struct Own;
    impl Calibration for Own {
        type Observer = quant::calibration::MinMaxObserver;
        fn name(&self) -> std::borrow::Cow<'static, str> {
            "own".into()
        }
        fn observer(&self) -> Self::Observer {
            quant::MinMaxCalibration {}.observer()
        }
        fn range(
            &self,
            observer: &Self::Observer,
            _: quant::scheme::Grid,
        ) -> Option<quant::scheme::Range> {
            observer.range()
        }
    }
    let plan = Quantizer { calibration: Own, scheme: INT8 }.plan(&net()).unwrap();
    let error = plan.to_recipe().unwrap_err();
    assert_eq!(error, QuantizeError::UnknownCalibration { id: "loud".into(), name: "own".into() });
}

#[test]
fn float_is_a_choice_and_what_is_quantized_stays() {
    let once = net().quantize_weights(Recipe::new().rule(Rule::quantize("quiet", INT2))).unwrap();
    let precisions = [Precision::Float, INT8.into()];
    let all = MixedPrecision::new("100%".parse().unwrap(), precisions).plan(&once).unwrap();
    assert_eq!(all.plan.params()[0].action, Action::KeepFloat);
    assert_eq!(all.plan.params()[0].reason, Reason::Budget);
    assert_eq!(all.plan.params()[1].reason, Reason::AlreadyQuantized);
    assert_eq!((all.error, all.gap), (0.0, 0.0));
}

#[test]
fn weights_say_where_errors_count() {
    let weights = |quiet: f64| {
        [("loud", 1.0), ("quiet", quiet), ("flat", 1.0), ("odd*[name]", 1e9)]
            .map(|(id, weight)| (id.into(), weight))
    };
    let plan = mixed("1900").weights(weights(1e6)).plan(&net()).unwrap().plan;
    let (loud, quiet) = (&plan.params()[0], &plan.params()[1]);
    assert!(loud.bytes_after < quiet.bytes_after);
    let plan = mixed("1900").weights(weights(1.0)).plan(&net()).unwrap().plan;
    let (loud, quiet) = (&plan.params()[0], &plan.params()[1]);
    assert!(loud.bytes_after > quiet.bytes_after);
}

#[test]
fn what_cannot_be_chosen_is_an_error() {
    let error = |mixed: MixedPrecision| mixed.plan(&net()).unwrap_err();
    let none: [Precision; 0] = [];
    let found = error(MixedPrecision::new(Budget::bytes(1), none));
    assert_eq!(found, MixedPrecisionError::NoPrecision);
    assert!(found.source().is_none() && found.to_string().contains("no precisions"));

    let found = error(mixed("10"));
    assert!(matches!(
        found,
        MixedPrecisionError::Select(SelectError::BudgetTooSmall { budget: 10, .. })
    ));
    assert!(found.source().is_none());
    assert!(found.to_string().contains("least possible is"));

    let found = error(mixed("90%").recipe(Recipe::new().rule(Rule::keep("nowhere"))));
    assert!(matches!(found, MixedPrecisionError::Quantize(QuantizeError::Rules(_))));
    assert!(found.source().is_none() && found.to_string().contains("nowhere"));

    let found = error(mixed("90%").weights([("loud".into(), -1.0)]));
    assert_eq!(found, MixedPrecisionError::Weight { id: "loud".into(), weight: -1.0 });
    assert!(found.to_string().contains("loud: the weight -1"));

    let found = error(mixed("90%").weights([("loud".into(), 1.0)]));
    assert_eq!(found, MixedPrecisionError::Unweighted { id: "quiet".into() });
    assert!(found.to_string().starts_with("quiet: "));

    let found = error(mixed("90%").weights([("lod".into(), 1.0)]));
    assert_eq!(found, MixedPrecisionError::UnknownWeight { id: "lod".into() });
    assert!(found.to_string().starts_with("lod: "));

    let mut nan = net();
    nan.quiet.as_float_mut().unwrap()[[1, 2]] = f32::NAN;
    let found = mixed("90%").plan(&nan).unwrap_err();
    let MixedPrecisionError::Quantize(QuantizeError::Param { id, source, .. }) = found else {
        panic!("{found}")
    };
    assert_eq!(id, "quiet");
    assert!(matches!(source, WeightError::NonFinite(_)));
}
