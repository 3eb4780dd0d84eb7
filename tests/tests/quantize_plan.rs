//! Plans: an outcome and its reason for every parameter, and what applying one can find wrong.

use std::borrow::Cow;
use std::error::Error;

use ndarray::Array2;
use quant::calibration::{Calibration, MinMaxObserver, MseCalibration};
use quant::quantize::{
    Action, Candidate, Decision, PlanDifference, Planner, Reason, Warning, WeightError,
    quantize_values,
};
use quant::scheme::{
    Axis, Block, Granularity, Grid, LayoutError, Mapping, NonFinite, Range, ScaleType,
};
use quant::tensor::TensorError;
use quant::{
    BincodeRecorder, MinMaxCalibration, Module, Param, Plan, QuantizationScheme, QuantizationType,
    QuantizeError, Quantizer, Recipe, Rule,
};
use tests::errors::chain;

const INT8: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
const INT4: QuantizationScheme =
    QuantizationScheme::PerChannelAffine(QuantizationType::QInt4, Axis::FIRST);

#[derive(Clone, Debug, PartialEq, Module)]
struct Net {
    weight: Param<Array2<f32>>,
    bias: Param<Vec<f32>>,
    scale: Param<f32>,
    empty: Param<Array2<f32>>,
    #[module(quantize)]
    flat: Param<Vec<f32>>,
    #[module(keep)]
    norm: Param<Array2<f32>>,
    #[module(scheme = "per-channel-affine-int4")]
    head: Param<Array2<f32>>,
}

fn matrix(start: f32) -> Param<Array2<f32>> {
    Param::new(Array2::from_shape_fn((4, 8), |(i, j)| start + i as f32 - 0.3 * j as f32))
}

fn net() -> Net {
    Net {
        weight: matrix(0.0),
        bias: Param::new(vec![1.0, 2.0]),
        scale: Param::new(0.5),
        empty: Param::new(Array2::zeros((0, 8))),
        flat: Param::new(vec![1.0, -1.0, 0.25]),
        norm: matrix(1.0),
        head: matrix(2.0),
    }
}

fn quantizer() -> Quantizer<MinMaxCalibration> {
    Quantizer { calibration: MinMaxCalibration {}, scheme: INT8 }
}

fn by(scheme: QuantizationScheme, calibration: &'static str) -> Action {
    Action::Quantize { scheme, calibration: calibration.into() }
}

fn outcomes(plan: &Plan) -> Vec<(&str, Action, Reason)> {
    let outcome =
        |param: &'_ quant::quantize::PlannedParam| (param.action.clone(), param.reason.clone());
    plan.params()
        .iter()
        .map(|param| {
            let (action, reason) = outcome(param);
            (param.id.as_str(), action, reason)
        })
        .collect()
}

#[test]
fn every_parameter_has_an_outcome_and_a_reason() {
    let plan = quantizer().plan(&net()).unwrap();
    assert_eq!(
        outcomes(&plan),
        [
            ("weight", by(INT8, "min-max"), Reason::Rank(2)),
            ("bias", Action::KeepFloat, Reason::Rank(1)),
            ("scale", Action::KeepFloat, Reason::Rank(0)),
            ("empty", Action::KeepFloat, Reason::Empty),
            ("flat", by(INT8, "min-max"), Reason::Attribute),
            ("norm", Action::KeepFloat, Reason::Attribute),
            ("head", by(INT4, "min-max"), Reason::Attribute),
        ]
    );
}

#[test]
fn bytes_are_those_that_applying_leaves() {
    let plan = quantizer().plan(&net()).unwrap();
    let model = plan.apply(net()).unwrap();
    assert_eq!(plan.bytes_before(), 4 * net().num_params() as u64);
    let weight = &plan.params()[0];
    assert_eq!((weight.bytes_before, weight.bytes_after), (128, 32 + 4));
    let head = &plan.params()[6];
    assert_eq!((head.bytes_before, head.bytes_after), (128, 16 + 4 * 5));
    assert_eq!(head.bytes_after as usize, model.head.quantized().unwrap().byte_count());
    assert_eq!(plan.params()[3].bytes_after, 0);
    let sum: u64 = plan.params().iter().map(|param| param.bytes_after).sum();
    assert_eq!(plan.bytes_after(), sum);
}

#[test]
fn expected_errors_are_those_that_applying_makes() {
    let plan = quantizer().plan(&net()).unwrap();
    let model = plan.apply(net()).unwrap();
    for (param, float, quantized) in
        [(0, &net().weight, &model.weight), (6, &net().head, &model.head)]
    {
        let expected = plan.params()[param].expected.unwrap();
        let (x, y) = (float.value(), quantized.value());
        let errors = || x.iter().zip(y.iter()).map(|(x, y)| f64::from(x - y));
        let largest = errors().fold(0.0, |max: f64, error| max.max(error.abs()));
        assert_eq!(f64::from(expected.max_abs_error), largest);
        let (signal, noise): (f64, f64) = (
            x.iter().map(|x| f64::from(*x).powi(2)).sum(),
            errors().map(|error| error.powi(2)).sum(),
        );
        let sqnr = 10.0 * (signal / noise).log10();
        assert!((expected.sqnr_db.unwrap() - sqnr).abs() < 1e-9);
        let scales = quantized.quantized().unwrap().scales();
        let (lo, hi) =
            scales.iter().fold((f32::MAX, 0.0f32), |(lo, hi), &s| (lo.min(s), hi.max(s)));
        assert_eq!(expected.scales, (lo, hi));
    }
    assert_eq!(plan.params()[1].expected, None);
}

#[test]
fn values_that_codes_hold_exactly_have_no_noise() {
    let ones = Param::new([[1.0f32; 2]; 2]);
    let plan = quantizer().plan(&ones).unwrap();
    let expected = plan.params()[0].expected.unwrap();
    assert_eq!((expected.sqnr_db, expected.max_abs_error), (None, 0.0));
    assert!(plan.to_string().contains("exact"));
}

#[test]
fn quantizing_is_planning_and_applying() {
    let plan = quantizer().plan(&net()).unwrap();
    assert_eq!(plan.apply(net()).unwrap(), net().quantize_weights(quantizer()).unwrap());
}

#[test]
fn quantizing_twice_changes_nothing() {
    let once = net().quantize_weights(quantizer()).unwrap();
    let plan = quantizer().plan(&once).unwrap();
    assert_eq!(plan.params()[0].action, Action::KeepQuantized { scheme: INT8 });
    assert_eq!(plan.params()[0].reason, Reason::AlreadyQuantized);
    assert_eq!(plan.params()[6].action, Action::KeepQuantized { scheme: INT4 });
    assert_eq!(plan.bytes_before(), plan.bytes_after());
    assert_eq!(plan.apply(once.clone()).unwrap(), once);
    let other = Quantizer { calibration: MseCalibration {}, scheme: INT4 };
    assert_eq!(once.clone().quantize_weights(other).unwrap(), once);
}

#[test]
fn a_plan_prints_as_a_table_with_reasons() {
    let model = net().quantize_weights(quantizer()).unwrap();
    let model = Net { head: matrix(2.0), ..model };
    let table = quantizer().plan(&model).unwrap().to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 9);
    assert!(lines[0].starts_with("parameter  shape   outcome"), "{table}");
    assert!(lines[0].ends_with("max error  because"), "{table}");
    let ends = [
        "already quantized",
        "rank 1",
        "rank 0",
        "no elements",
        "already quantized",
        "attribute of the field",
        "attribute of the field",
    ];
    for (line, end) in lines[1..].iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
    assert!(lines[1].contains("stays per-tensor-symmetric-int8"));
    assert!(lines[7].contains("per-channel-affine-int4 by min-max") && lines[7].contains(" dB"));
    assert!(lines[8].starts_with("7 parameters, "), "{table}");
}

#[test]
fn a_model_without_parameters_has_an_empty_plan() {
    let plan = quantizer().plan(&()).unwrap();
    assert_eq!(plan, Plan::default());
    assert_eq!(plan.to_string().lines().last(), Some("0 parameters, 0 bytes before, 0 after"));
    plan.apply(()).unwrap();
    Vec::<Param<f32>>::new().quantize_weights(quantizer()).unwrap();
}

#[test]
fn plans_survive_json_and_toml_and_then_still_apply() {
    let recipe = Recipe::new()
        .scheme(INT8)
        .calibration("percentile:99.5".parse().unwrap())
        .rule(Rule::keep("norm"))
        .rule(Rule::quantize("head", INT4).calibration("mse".parse().unwrap()));
    for model in [net(), net().quantize_weights(quantizer()).unwrap()] {
        let plan = recipe.plan(&model).unwrap();
        let json: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(json, plan);
        let toml: Plan = toml::from_str(&toml::to_string(&plan).unwrap()).unwrap();
        assert_eq!(toml, plan);
        assert_eq!(json.apply(model.clone()).unwrap(), plan.apply(model).unwrap());
    }
}

/// Half the range, by the user's own calibration.
#[derive(Clone)]
struct Half;

impl Calibration for Half {
    type Observer = MinMaxObserver;

    fn name(&self) -> Cow<'static, str> {
        "half".into()
    }

    fn observer(&self) -> MinMaxObserver {
        MinMaxObserver::default()
    }

    fn range(&self, observer: &MinMaxObserver, _grid: Grid) -> Option<Range> {
        observer.range().and_then(|range| Range::new(range.lo() / 2.0, range.hi() / 2.0))
    }
}

#[test]
fn a_plan_by_the_users_own_calibration_applies() {
    let mut quantizer = Quantizer { calibration: Half, scheme: INT8 };
    let plan = quantizer.plan(&net()).unwrap();
    let model = plan.apply(net()).unwrap();
    let expected = quantize_values(&[3], net().flat.value().as_slice(), INT8, &Half).unwrap();
    assert_eq!(model.flat.quantized(), Some(&expected));
    assert_eq!(model, net().quantize_weights(&mut quantizer).unwrap());
}

#[test]
fn a_plan_from_a_file_cannot_know_the_users_own_calibration() {
    let plan = Quantizer { calibration: Half, scheme: INT8 }.plan(&net()).unwrap();
    let read: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(read, plan);
    let error = read.apply(net()).unwrap_err();
    assert_eq!(
        error,
        QuantizeError::UnknownCalibration { id: "weight".into(), name: "half".into() }
    );
    assert_eq!(
        error.to_string(),
        "weight: the plan names `half`, which is not a calibration of this crate"
    );
    assert!(error.source().is_none());
}

#[test]
fn a_plan_for_another_model_names_all_differences() {
    #[derive(Clone, Module)]
    struct Planned {
        weight: Param<[[f32; 2]; 2]>,
        shape: Param<[f32; 3]>,
        gone: Param<f32>,
        float: Param<[[f32; 1]; 1]>,
    }
    #[derive(Module)]
    struct Found {
        weight: Param<[[f32; 2]; 2]>,
        shape: Param<[f32; 4]>,
        float: Param<[[f32; 1]; 1]>,
        new: Param<f32>,
    }
    let planned = Planned {
        weight: Param::new([[1.0; 2]; 2]),
        shape: Param::new([0.0; 3]),
        gone: Param::new(0.0),
        float: Param::new([[1.0]]),
    };
    let plan = quantizer().plan(&planned).unwrap();
    let found = Found {
        weight: Param::new([[1.0; 2]; 2]),
        shape: Param::new([0.0; 4]),
        float: Param::new([[1.0]]).quantize_weights(quantizer()).unwrap(),
        new: Param::new(0.0),
    };
    let error = plan.apply(found).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the plan was made for another model: shape has shape [4], but the plan has [3]; gone is not \
         in the model; float is quantized in one and float in the other; new is not in the plan"
    );
    let QuantizeError::PlanMismatch(differences) = error else { panic!() };
    assert!(matches!(
        differences.as_slice(),
        [
            PlanDifference::Shape { .. },
            PlanDifference::Missing { .. },
            PlanDifference::Type { .. },
            PlanDifference::Unplanned { .. }
        ]
    ));
    // And the other way round: planned quantized, found float.
    let plan = quantizer().plan(&planned.clone().quantize_weights(quantizer()).unwrap());
    let error = plan.unwrap().apply(planned).err().unwrap();
    assert!(error.to_string().contains("weight is quantized in one and float in the other"));
}

#[test]
fn two_parameters_of_one_path_are_refused() {
    // Keys of a map are steps of a path, dots and all.
    let model = (
        Param::new(1.0f32),
        std::collections::BTreeMap::from([
            ("a.b".to_owned(), vec![Param::new(1.0f32)]),
            ("a".to_owned(), vec![]),
        ]),
        Vec::<Param<f32>>::new(),
    );
    assert!(quantizer().plan(&model).is_ok());

    #[derive(Module)]
    struct Twice {
        #[module(rename = "a.0")]
        direct: Param<f32>,
        a: Vec<Param<f32>>,
    }
    let twice = || Twice { direct: Param::new(0.0), a: vec![Param::new(1.0)] };
    for error in [
        quantizer().plan(&twice()).unwrap_err(),
        twice().quantize_weights(quantizer()).err().unwrap(),
        twice().quantize_weights(Recipe::new()).err().unwrap(),
    ] {
        assert_eq!(error, QuantizeError::DuplicatePath { id: "a.0".into() });
        assert_eq!(error.to_string(), "a.0: the walk shows this path twice");
    }
}

#[test]
fn a_planner_that_leaves_a_parameter_out_is_refused() {
    struct First;
    impl Planner for First {
        fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
            let first = candidates
                .first()
                .map(|_| Decision::quantize(INT8, MinMaxCalibration {}, Reason::NoRule));
            Ok(first.into_iter().collect())
        }
    }
    let error = net().quantize_weights(&mut First).unwrap_err();
    assert_eq!(error, QuantizeError::Undecided { expected: 7, found: 1 });
    assert_eq!(error.to_string(), "the planner made 1 decisions for 7 parameters");
    assert!(matrix(0.0).quantize_weights(&mut First).unwrap().is_quantized());
    let erased: &mut dyn Planner = &mut First;
    assert!(matrix(0.0).quantize_weights(erased).unwrap().is_quantized());
}

fn refused(model: &(impl Module + Clone), scheme: QuantizationScheme) -> QuantizeError {
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme };
    let error = model.clone().quantize_weights(quantizer).err().unwrap();
    assert_eq!(quantizer.plan(model).unwrap_err(), error);
    error
}

#[test]
fn non_finite_values_are_named_by_path_and_index() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut model = net();
        model.weight.as_float_mut().unwrap()[[2, 5]] = value;
        for granularity in [
            Granularity::PerTensor,
            Granularity::PerChannel(Axis::FIRST),
            // The groups below are not one run of elements each.
            Granularity::PerChannel(Axis::LAST),
            Granularity::PerBlock(Block::new(3).unwrap()),
        ] {
            let scheme =
                QuantizationScheme::new(QuantizationType::QInt4, Mapping::Affine, granularity);
            let error = refused(&model, scheme);
            let source = WeightError::NonFinite(NonFinite { index: 21, value });
            assert_eq!(error, QuantizeError::Param { id: "weight".into(), scheme, source });
            assert_eq!(
                chain(&error),
                format!("weight: cannot be quantized {scheme}: element 21 is {value}")
            );
            assert!(error.source().unwrap().is::<WeightError>());
        }
    }
}

#[test]
fn non_finite_values_of_a_middle_axis_and_of_a_transposed_array_are_found() {
    let mut array = ndarray::Array3::<f32>::zeros((2, 3, 4));
    array[[1, 1, 2]] = f32::NAN;
    let scheme = "per-channel-symmetric-int8:axis=1".parse().unwrap();
    let error = refused(&Param::new(array.clone()), scheme);
    assert!(chain(&error).ends_with("element 18 is NaN"), "{error}");
    let error = refused(&Param::new(array.reversed_axes()), scheme);
    // [2, 1, 1] of shape [4, 3, 2].
    assert!(chain(&error).ends_with("element 15 is NaN"), "{error}");
}

#[test]
fn non_finite_values_are_found_by_every_calibration() {
    // Rows that are long enough for entropy.
    let mut weight = Array2::<f32>::ones((3, 256));
    weight[[1, 8]] = f32::NAN;
    let model = Param::new(weight);
    for name in ["min-max", "moving-average", "percentile", "mse", "entropy"] {
        let recipe = Recipe::new().scheme(INT4).calibration(name.parse().unwrap());
        let error = recipe.plan(&model).unwrap_err();
        assert!(chain(&error).ends_with("element 264 is NaN"), "{name}: {error}");
    }
}

#[test]
fn entropy_refuses_weights_in_small_groups_and_says_what_to_take() {
    let recipe = |scheme: &str, calibration: &str| {
        Recipe::new().scheme(scheme.parse().unwrap()).calibration(calibration.parse().unwrap())
    };
    // The last block of a row may be short.
    let model =
        Param::new(Array2::from_shape_fn((2, 270), |(i, j)| (7 * i + j) as f32 % 11.0 - 4.0));
    for (scheme, values) in [
        ("per-block-symmetric-int4:len=32", 32),
        ("per-block-affine-int8:len=255", 255),
        ("per-channel-symmetric-int4:axis=1", 2),
    ] {
        let error = recipe(scheme, "entropy").plan(&model).unwrap_err();
        let QuantizeError::Param { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source, &WeightError::SmallGroups { values, least: 256 }, "{scheme}");
        let text = format!(
            "the calibration needs groups of 256 values or more, and these have {values}; use mse, or \
             larger groups"
        );
        assert_eq!(source.to_string(), text);
        assert!(source.source().is_none());
        assert!(model.clone().quantize_weights(recipe(scheme, "entropy")).is_err());
        assert!(recipe(scheme, "mse").plan(&model).is_ok());
    }
    // Also where a plan reads no values.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    model.save_file(&path, &BincodeRecorder::default()).unwrap();
    let plan = |recipe: &Recipe| {
        let checkpoint = quant_formats::open(&path).unwrap();
        quant_formats::plan_by_shapes(&checkpoint, recipe, quant_formats::Options::default())
    };
    let error = plan(&recipe("per-block-symmetric-int4", "entropy")).unwrap_err();
    assert!(chain(&error).contains("needs groups of 256 values or more"), "{}", chain(&error));
    assert!(plan(&recipe("per-channel-symmetric-int4", "entropy")).is_ok());
    for scheme in [
        "per-block-symmetric-int4:len=256",
        "per-block-symmetric-int4:len=1000",
        "per-channel-symmetric-int4",
        "per-tensor-affine-int8",
    ] {
        assert!(model.clone().quantize_weights(recipe(scheme, "entropy")).is_ok(), "{scheme}");
    }
}

#[test]
fn a_calibration_of_your_own_may_need_larger_groups() {
    #[derive(Clone)]
    struct Many;
    impl Calibration for Many {
        type Observer = MinMaxObserver;
        fn name(&self) -> Cow<'static, str> {
            "many".into()
        }
        fn observer(&self) -> MinMaxObserver {
            MinMaxCalibration {}.observer()
        }
        fn range(&self, observer: &MinMaxObserver, _: Grid) -> Option<Range> {
            observer.range()
        }
        fn least_values(&self) -> usize {
            4
        }
    }
    let quantized = |len: usize| quantize_values(&[len], &vec![1.0; len], INT8, &Many);
    assert_eq!(quantized(3).unwrap_err(), WeightError::SmallGroups { values: 3, least: 4 });
    assert!(quantized(4).is_ok());
}

#[test]
fn a_non_finite_value_in_a_parameter_that_stays_float_is_no_error() {
    let mut model = net();
    model.bias.as_float_mut().unwrap()[0] = f32::NAN;
    assert!(quantizer().plan(&model).is_ok());
}

#[test]
fn a_scheme_that_does_not_fit_is_named_with_path_and_shape() {
    let scheme = QuantizationScheme::PerChannelSymmetric(QuantizationType::QInt8, Axis::new(2));
    let error = refused(&net(), scheme);
    assert_eq!(
        chain(&error),
        "weight: cannot be quantized per-channel-symmetric-int8:axis=2: a tensor of shape [4, 8] \
         has no axis 2"
    );
    let QuantizeError::Param { source, .. } = &error else { panic!() };
    let layout = LayoutError::NoSuchAxis { axis: Axis::new(2), shape: vec![4, 8] };
    assert_eq!(source, &WeightError::Layout(layout));
    assert!(source.source().is_none());
}

#[test]
fn a_scale_that_half_precision_cannot_hold_is_named_with_its_group() {
    let mut model = net();
    model.weight.as_float_mut().unwrap().row_mut(3).fill(1e-7);
    let block = Block::new(8).unwrap().with_f16_scales();
    let scheme = QuantizationScheme::PerBlockSymmetric(QuantizationType::QInt8, block);
    let error = refused(&model, scheme);
    let QuantizeError::Param { source: WeightError::Scale { group, source }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*group, source.stored_as), (3, ScaleType::F16));
    let text = "weight: cannot be quantized per-block-symmetric-int8:len=8:scale=f16: group 3: the \
                scale 7.874016e-10 is not a normal f16; store it in f32";
    assert_eq!(chain(&error), text);
    assert!(error.source().unwrap().source().unwrap().is::<quant::scheme::ScaleError>());
}

#[test]
fn a_value_whose_code_would_stand_for_an_infinity_is_refused_with_its_group() {
    let mut model = net();
    model.weight.as_float_mut().unwrap()[[2, 1]] = f32::MAX;
    model.weight.as_float_mut().unwrap()[[2, 5]] = -f32::MAX;
    let scheme = QuantizationScheme::PerChannelAffine(QuantizationType::QInt8, Axis::FIRST);
    let error = refused(&model, scheme);
    let QuantizeError::Param { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source, &WeightError::InfiniteCode { group: 2, value: -f32::MAX });
    let text = "weight: cannot be quantized per-channel-affine-int8: group 2: the code of \
                -3.4028235e38 stands for an infinity; divide the weight by 2, or keep it float";
    assert_eq!(chain(&error), text);
    assert!(source.source().is_none());
}

/// Over both mappings and all widths: what is quantized is finite, and halves always are.
#[test]
fn a_quantized_weight_never_has_an_infinite_value() {
    let (most, mut refused, mut taken) = (f32::MAX, 0, 0);
    let weights = [
        [most, -most, 0.0, 1.0],
        [most, 0.0, 0.0, 1.0],
        [-most, 0.0, 0.0, 1.0],
        [most, -most / 2.0, 3.0, 1.0],
        [most * 0.997, -most * 0.998, 0.0, 1.0],
        [most * 0.99, -most * 0.97, 0.0, 1.0],
    ];
    for ty in QuantizationType::ALL {
        for mapping in ["symmetric", "affine", "full-range", "minimum"] {
            for scale in ["", ":scale=bf16"] {
                let name = format!("per-block-{mapping}-int{}:len=4{scale}", ty.bits());
                let scheme: QuantizationScheme = name.parse().unwrap();
                for values in weights {
                    let half = values.map(|value| value / 2.0);
                    for (values, may_fail) in [(values, true), (half, mapping == "minimum")] {
                        match quantize_values(&[4], &values, scheme, &MinMaxCalibration {}) {
                            Ok(tensor) => {
                                let finite = tensor.dequantize().iter().all(|x| x.is_finite());
                                assert!(finite, "{name} {values:?}");
                                taken += 1;
                            }
                            Err(error) => {
                                assert!(may_fail, "{name} {values:?} {error}");
                                refused += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 20 && taken > 200, "{refused} {taken}");
}

#[test]
fn a_code_that_no_value_has_may_stand_for_an_infinity() {
    /// All of f32, whatever the values.
    #[derive(Clone)]
    struct Everything;
    impl Calibration for Everything {
        type Observer = MinMaxObserver;
        fn name(&self) -> Cow<'static, str> {
            "everything".into()
        }
        fn observer(&self) -> MinMaxObserver {
            MinMaxCalibration {}.observer()
        }
        fn range(&self, _: &MinMaxObserver, _: Grid) -> Option<Range> {
            Range::new(-f32::MAX, f32::MAX)
        }
    }
    let scheme = "per-tensor-affine-int8".parse().unwrap();
    let tensor = quantize_values(&[3], &[3e38, -3e38, 0.0], scheme, &Everything).unwrap();
    assert!(tensor.dequantize().iter().all(|value| value.is_finite()));
    assert!((-128.0 * tensor.scales()[0]).is_infinite());
    let error = quantize_values(&[2], &[3e38, f32::MIN], scheme, &Everything).unwrap_err();
    assert_eq!(error, WeightError::InfiniteCode { group: 0, value: f32::MIN });
}

#[test]
fn values_that_are_not_as_many_as_the_shape_says_are_refused() {
    let error = quantize_values(&[2, 2], &[1.0; 3], INT8, &MinMaxCalibration {}).unwrap_err();
    let source = TensorError::Len { shape: vec![2, 2], expected: 4, found: 3 };
    assert_eq!(error, WeightError::Tensor(source));
    assert_eq!(error.to_string(), "shape [2, 2] has 4 elements, but 3 values are given");
    assert!(error.source().is_none());
}

/// The last parameter fails, and the first is what it was.
#[test]
fn nothing_is_changed_unless_everything_can_be() {
    struct Watched<'a>(&'a mut Net);
    impl quant::module::Walk for Watched<'_> {
        fn walk(&self, walker: &mut quant::module::Walker<'_>) {
            quant::module::Walk::walk(self.0, walker);
        }
        fn walk_mut(&mut self, walker: &mut quant::module::WalkerMut<'_>) {
            quant::module::Walk::walk_mut(self.0, walker);
        }
    }
    let plan = quantizer().plan(&net()).unwrap();
    let mut model = net();
    model.head.as_float_mut().unwrap()[[0, 0]] = f32::NAN;
    assert!(Watched(&mut model).quantize_weights(quantizer()).is_err());
    assert!(plan.apply(Watched(&mut model)).is_err());
    assert_eq!(model.weight, net().weight);
    assert!(model.params().iter().all(|info| info.scheme.is_none()));
}

#[test]
fn stacked_experts_have_a_scale_for_each_row_of_each_expert() {
    let values = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
    let tensor = |shape: [usize; 3]| {
        quant::Tensor::from_values(&shape, values(shape.iter().product())).unwrap()
    };
    let names = ["mlp.experts.down_proj", "blk.0.ffn_up_exps.weight", "conv.weight"];
    let model: quant::record::Record =
        names.map(|name| (name, tensor([2, 6, 40]))).into_iter().collect();
    let schemes = |plan: Plan| -> Vec<String> {
        let params = plan.params().iter();
        params.map(|param| format!("{} because {}", param.action, param.reason)).collect()
    };
    let int8 = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    let rows =
        "per-block-symmetric-int8:len=40 by min-max because stacked experts, a scale for each row";
    let channels = "per-channel-symmetric-int8 by min-max because rank 3";
    assert_eq!(schemes(int8.plan(&model).unwrap()), [rows, rows, channels]);
    let quantized = model.clone().quantize_weights(&int8).unwrap();
    assert_eq!(quantized.get(names[0]).unwrap().quantized().unwrap().scales().len(), 2 * 6);

    let rule = Rule::quantize("mlp.experts.*", "per-channel-symmetric-int8".parse().unwrap());
    let by_rule = int8.rule(rule).plan(&model).unwrap();
    assert_eq!(by_rule.params()[0].action, by_rule.params()[2].action, "a rule is taken as it is");
}

#[derive(Module)]
struct One {
    weight: Param<Array2<f32>>,
}

/// `[in, out]`, as some programs store the weight of a layer. One output of 48 is large.
fn transposed() -> One {
    let magnitude = |output: usize| if output == 5 { 100.0 } else { 1.0 };
    let value = |(i, j): (usize, usize)| magnitude(j) * ((i * 48 + j) as f32 * 1.7).sin();
    One { weight: Param::new(Array2::from_shape_fn((64, 48), value)) }
}

/// The SQNR of the columns, sorted.
fn sqnr_of_columns(scheme: &str) -> Vec<f64> {
    let recipe = Recipe::new().scheme(scheme.parse().unwrap());
    let quantized = transposed().quantize(&recipe).unwrap();
    let values =
        |one: One| one.dequantize().weight.into_float().unwrap().into_raw_vec_and_offset().0;
    let (before, after) = (values(transposed()), values(quantized));
    let sqnr = |column: usize| {
        let of = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            let column = (0..64).map(|row| row * 48 + column);
            column.map(|i| f(before[i].into(), after[i].into())).sum()
        };
        10.0 * (of(&|x, _| x * x) / of(&|x, y| (x - y) * (x - y))).log10()
    };
    let mut all: Vec<f64> = (0..48).map(sqnr).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[test]
fn a_plan_points_out_an_axis_whose_channels_are_better_by_far() {
    let plan = |scheme: &str| Recipe::new().scheme(scheme.parse().unwrap()).plan(&transposed());
    let warning = |scheme| plan(scheme).unwrap().params()[0].warning;
    let Some(Warning::OtherAxis { axis: 1, gain_db }) = warning("per-channel-symmetric-int8")
    else {
        panic!("{:?}", warning("per-channel-symmetric-int8"));
    };
    assert_eq!(warning("per-channel-symmetric-int8:axis=1"), None);
    let [now, then] =
        [0, 1].map(|axis| sqnr_of_columns(&format!("per-channel-symmetric-int8:axis={axis}"))[24]);
    assert!((then - now - f64::from(gain_db)).abs() < 3.0, "{gain_db} dB: {now} become {then}");
    let text = plan("per-channel-symmetric-int8").unwrap().to_string();
    assert!(text.contains("channels along axis 1 would be better by about 37 dB"), "{text}");
}

#[test]
fn a_plan_points_out_no_axis_that_no_kernel_runs() {
    #[derive(Module)]
    struct Layer {
        weight: Param<Array2<f32>>,
        input: quant::activation::ActivationQuantizer,
    }
    let layer = Layer { weight: transposed().weight, input: Default::default() };
    let scheme = "per-channel-symmetric-int8".parse().unwrap();
    let recipe = Recipe::new().scheme(scheme).activations(quant::scheme::ActivationScheme::DYNAMIC);
    assert_eq!(recipe.plan(&layer).unwrap().params()[0].warning, None);
}
