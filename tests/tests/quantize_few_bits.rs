//! Methods for few bits: what they promise of errors, and GPTQ against the algorithm of the paper.

use std::sync::Arc;

use ndarray::ArrayD;
use quant::calibration::{
    Calibration, CalibrationMethod, GptqCalibration, HqqCalibration, LeastSquaresCalibration,
    MseCalibration, WeightedMseCalibration,
};
use quant::moments::{LayerMoments, MomentsError, SecondMoments};
use quant::quantize::mixed::{MixedPrecision, Precision};
use quant::quantize::{WeightError, quantize_values};
use quant::tensor::QuantizedTensor;
use quant::{
    MinMaxCalibration, Module, Plan, QuantizationScheme, QuantizeError, Quantizer, Recipe,
};
use quant_nn::Linear;
use tests::random::Random;

const OUTPUTS: usize = 37;
const INPUTS: usize = 96;

#[derive(Clone, Debug, Module)]
struct Net {
    layer: Linear,
}

impl PartialEq for Net {
    fn eq(&self, other: &Self) -> bool {
        (&self.layer.weight, &self.layer.input) == (&other.layer.weight, &other.layer.input)
    }
}

fn values(seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..OUTPUTS * INPUTS).map(|_| random.normal()).collect()
}

fn net(seed: u64) -> Net {
    let weight = ArrayD::from_shape_vec(vec![OUTPUTS, INPUTS], values(seed)).unwrap();
    Net { layer: Linear::new(weight, None).unwrap() }
}

/// Rows of inputs that have much to do with each other.
fn batches(seed: u64) -> Vec<ArrayD<f32>> {
    let mut random = Random(seed);
    let batch = |_| {
        let mut before = 0.0;
        let mut next = |k: usize| {
            before = 0.8 * before + random.normal();
            before * (1.0 + (k % 7) as f32)
        };
        let values = (0..40 * INPUTS).map(|at| next(at % INPUTS)).collect();
        ArrayD::from_shape_vec(vec![40, INPUTS], values).unwrap()
    };
    (0..6).map(batch).collect()
}

fn observed(net: &mut Net, batches: &[ArrayD<f32>]) -> SecondMoments {
    SecondMoments::observe(net, batches, |_| true, |net, batch| net.layer.forward(batch)).unwrap()
}

fn scheme(name: &str) -> QuantizationScheme {
    name.parse().unwrap()
}

fn squared_error(values: &[f32], tensor: &QuantizedTensor) -> f64 {
    let pairs = values.iter().zip(tensor.dequantize());
    pairs.map(|(&x, y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// `Σ dᵀ H d` over the rows of a weight, with the damping of GPTQ.
fn output_error(values: &[f32], tensor: &QuantizedTensor, moments: &LayerMoments) -> Vec<f64> {
    let h = damped(moments);
    let errors: Vec<f64> =
        values.iter().zip(tensor.dequantize()).map(|(&x, y)| f64::from(x) - f64::from(y)).collect();
    let row = |d: &[f64]| -> f64 {
        (0..INPUTS).map(|i| (0..INPUTS).map(|j| d[i] * h[i][j] * d[j]).sum::<f64>()).sum()
    };
    errors.chunks(INPUTS).map(row).collect()
}

fn damped(moments: &LayerMoments) -> Vec<Vec<f64>> {
    let mean = moments.diagonal().iter().sum::<f64>() / INPUTS as f64;
    let entry = |i: usize, j: usize| {
        moments.product(i, j).unwrap() / mean + if i == j { 0.01 } else { 0.0 }
    };
    (0..INPUTS).map(|i| (0..INPUTS).map(|j| entry(i, j)).collect()).collect()
}

fn quantized(net: &Net, recipe: &Recipe) -> QuantizedTensor {
    let net = net.clone().quantize_weights(recipe).unwrap();
    net.layer.weight.quantized().unwrap().clone()
}

fn recipe(scheme_name: &str, method: &str, moments: &Arc<SecondMoments>) -> Recipe {
    Recipe::new()
        .scheme(scheme(scheme_name))
        .calibration(method.parse().unwrap())
        .moments(moments.clone())
}

#[test]
fn least_squares_are_never_more_than_those_of_ranges() {
    let values = values(1);
    let mut better = 0;
    for ty in ["int2", "int3", "int4", "int8"] {
        for mapping in ["symmetric", "full-range", "affine", "minimum"] {
            for granularity in ["per-block", "per-channel", "per-tensor"] {
                let scheme = scheme(&format!("{granularity}-{mapping}-{ty}"));
                let error = |calibration: CalibrationMethod| {
                    let tensor =
                        quantize_values(&[OUTPUTS, INPUTS], &values, scheme, &calibration).unwrap();
                    squared_error(&values, &tensor)
                };
                let found = error("least-squares".parse().unwrap());
                let bound = match mapping {
                    "minimum" => error("min-max".parse().unwrap()),
                    _ => error("mse".parse().unwrap()),
                };
                assert!(found <= bound * (1.0 + 1e-12), "{scheme}: {found} of {bound}");
                better += usize::from(found < 0.99 * bound);
            }
        }
    }
    assert!(better >= 12, "{better}");
}

#[test]
fn half_quadratic_minimums_have_no_larger_errors_than_those_of_the_range() {
    let values = values(2);
    let scheme = scheme("per-block-minimum-int3:scale=f16");
    let tensor = |calibration: CalibrationMethod| {
        quantize_values(&[OUTPUTS, INPUTS], &values, scheme, &calibration).unwrap()
    };
    let [hqq, min_max] = ["hqq", "min-max"].map(|name| tensor(name.parse().unwrap()));
    assert_eq!(hqq.scales(), min_max.scales());
    assert_ne!(hqq.minimums(), min_max.minimums());
    let magnitude = |tensor: &QuantizedTensor| -> f32 {
        values.iter().zip(tensor.dequantize()).map(|(x, y)| (x - y).abs()).sum()
    };
    assert!(magnitude(&hqq) < magnitude(&min_max));
}

#[test]
fn a_method_for_minimums_refuses_schemes_without() {
    let error =
        quantize_values(&[1], &[1.0], scheme("per-tensor-symmetric-int4"), &HqqCalibration {});
    assert_eq!(error.unwrap_err(), WeightError::NeedsMinimums);
}

#[test]
fn second_moments_are_those_of_the_inputs_whatever_the_order_of_batches() {
    let mut net = net(3);
    let before = net.clone();
    let mut batches = batches(4);
    let moments = observed(&mut net, &batches);
    assert_eq!(net, before);
    batches.reverse();
    assert_eq!(observed(&mut net, &batches), moments);

    let layer = moments.get("layer").unwrap();
    assert_eq!((layer.columns(), layer.rows()), (INPUTS, 240));
    for (i, j) in [(0, 0), (3, 2), (2, 3), (95, 0)] {
        let expected: f64 = batches
            .iter()
            .flat_map(|batch| batch.as_slice().unwrap().chunks(INPUTS))
            .map(|row| f64::from(row[i]) * f64::from(row[j]))
            .sum();
        let found = layer.product(i, j).unwrap();
        assert!((found - expected).abs() < 1e-2, "{i} {j}: {found} for {expected}");
    }
}

#[test]
fn moments_of_parts_merge_into_those_of_the_whole() {
    let batches = batches(5);
    let part = |batches: &[ArrayD<f32>]| {
        let mut moments = LayerMoments::for_inputs_up_to(100.0, INPUTS).unwrap();
        for batch in batches {
            moments.add(batch.as_slice().unwrap()).unwrap();
        }
        moments
    };
    let (mut first, second) = (part(&batches[..2]), part(&batches[2..]));
    first.merge(&second).unwrap();
    assert_eq!(first, part(&batches));
    let mut one = SecondMoments::new();
    one.insert("layer", part(&batches[2..]));
    let mut other = SecondMoments::new();
    other.insert("layer", part(&batches[..2]));
    one.merge(&other).unwrap();
    assert_eq!(one.get("layer"), Some(&first));
}

#[test]
fn moments_that_do_not_fit_are_errors() {
    let mut moments = LayerMoments::for_inputs_up_to(1.0, 2).unwrap();
    let unchanged = moments.clone();
    let error = moments.add(&[1.0; 3]).unwrap_err();
    assert_eq!(error, MomentsError::Length { expected: 2, found: 3 });
    let error = moments.add(&[1.0, f32::NAN]).unwrap_err();
    assert!(matches!(error, MomentsError::NonFinite { .. }));
    let other = LayerMoments::for_inputs_up_to(1.0, 3).unwrap();
    let error = moments.merge(&other).unwrap_err();
    assert_eq!(error, MomentsError::Columns { expected: 2, found: 3 });
    let other = LayerMoments::for_inputs_up_to(2.0, 2).unwrap();
    assert_eq!(moments.merge(&other).unwrap_err(), MomentsError::OtherGrid);
    let many = LayerMoments::from_matrix(-20, 2, 1 << 22, vec![0; 3]).unwrap();
    assert!(matches!(moments.merge(&many), Ok(())));
    assert_eq!(moments.add(&[1.0; 2]).unwrap_err(), MomentsError::Rows { rows: (1 << 22) + 1 });
    assert_eq!(unchanged.rows(), 0);

    for columns in [0, (1 << 15) + 1] {
        let error = LayerMoments::for_inputs_up_to(1.0, columns).unwrap_err();
        assert_eq!(error, MomentsError::Columns { expected: 1 << 15, found: columns });
    }
    assert!(matches!(
        LayerMoments::for_inputs_up_to(f32::INFINITY, 1).unwrap_err(),
        MomentsError::NonFinite { .. }
    ));
    let error = LayerMoments::from_matrix(0, 2, 1, vec![1, 2, -3]).unwrap_err();
    assert_eq!(error, MomentsError::Negative { value: -3.0 });
    let error = LayerMoments::from_matrix(1000, 1, 1, vec![1]).unwrap_err();
    assert_eq!(error, MomentsError::Exponent { exponent: 1000 });
    let error = LayerMoments::from_diagonal(vec![1.0, -1.0], 1).unwrap_err();
    assert_eq!(error, MomentsError::Negative { value: -1.0 });
    let mut diagonal = LayerMoments::from_diagonal(vec![1.0], 1).unwrap();
    assert_eq!(diagonal.add(&[1.0]).unwrap_err(), MomentsError::DiagonalOnly);
    assert_eq!((diagonal.product(0, 0), diagonal.diagonal()), (None, vec![1.0]));
}

/// The codes of the paper: columns in order, each error fed forward to the columns after it by the
/// Cholesky factor of the inverse. Rows are cut at the first value that is nearly half between codes.
fn codes_of_the_paper(
    values: &[f32],
    tensor: &QuantizedTensor,
    moments: &LayerMoments,
) -> Vec<Vec<i8>> {
    let u = upper_factor(&inverse(damped(moments)));
    let grid = tensor.scheme().grid();
    let row = |(r, row): (usize, &[f32])| {
        let mut w: Vec<f64> = row.iter().map(|&x| x.into()).collect();
        let mut codes = Vec::new();
        for j in 0..INPUTS {
            let params = tensor.params(tensor.groups().group_of(r * INPUTS + j));
            let steps = w[j] / f64::from(params.scale());
            if ((steps - steps.floor()) - 0.5).abs() < 1e-5 {
                break;
            }
            let code = grid.quantize(w[j] as f32, params);
            codes.push(code);
            let error = (w[j] - f64::from(params.dequantize(code))) / u[j][j];
            for k in j..INPUTS {
                w[k] -= error * u[j][k];
            }
        }
        codes
    };
    values.chunks(INPUTS).enumerate().map(row).collect()
}

/// By Gauss and Jordan.
fn inverse(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut b: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for i in 0..n {
        let pivot = a[i][i];
        for j in 0..n {
            a[i][j] /= pivot;
            b[i][j] /= pivot;
        }
        for r in (0..n).filter(|&r| r != i) {
            let factor = a[r][i];
            for j in 0..n {
                a[r][j] -= factor * a[i][j];
                b[r][j] -= factor * b[i][j];
            }
        }
    }
    b
}

/// `U` of `Uᵀ U = a`.
fn upper_factor(a: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut u = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in i..n {
            let sum: f64 = (0..i).map(|k| u[k][i] * u[k][j]).sum();
            u[i][j] = if i == j { (a[i][i] - sum).sqrt() } else { (a[i][j] - sum) / u[i][i] };
        }
    }
    u
}

#[test]
fn gptq_gives_the_codes_of_the_paper() {
    let mut net = net(6);
    let moments = Arc::new(observed(&mut net, &batches(7)));
    let layer = moments.get("layer").unwrap();
    for name in ["per-block-full-range-int4:scale=f16", "per-channel-symmetric-int3"] {
        let tensor = quantized(&net, &recipe(name, "gptq", &moments));
        let nearest = quantized(&net, &recipe(name, "mse", &moments));
        let mut compared = 0;
        let expected = codes_of_the_paper(&values(6), &tensor, layer);
        let [rows, nearest] = [&tensor, &nearest].map(QuantizedTensor::codes);
        let rows = rows.chunks(INPUTS).zip(nearest.chunks(INPUTS));
        for (expected, (found, nearest)) in expected.iter().zip(rows) {
            if found == nearest {
                continue;
            }
            assert_eq!(&found[..expected.len()], expected, "{name}");
            compared += expected.len();
        }
        assert!(compared > OUTPUTS * INPUTS / 2, "{name}: {compared}");
    }
}

#[test]
fn no_row_of_outputs_gets_worse_by_gptq_than_by_mse() {
    let mut net = net(8);
    let moments = Arc::new(observed(&mut net, &batches(9)));
    let layer = moments.get("layer").unwrap();
    for name in [
        "per-block-full-range-int4:scale=f16",
        "per-block-minimum-int3:scale=f16",
        "per-channel-affine-int4",
        "per-tensor-symmetric-int8",
        "per-channel-symmetric-int4:axis=-1",
    ] {
        for method in ["gptq", "gptq:descending"] {
            let tensor = quantized(&net, &recipe(name, method, &moments));
            let nearest = if name.contains("minimum") { "least-squares" } else { "mse" };
            let nearest = quantized(&net, &recipe(name, nearest, &moments));
            let found = output_error(&values(8), &tensor, layer);
            let bounds = output_error(&values(8), &nearest, layer);
            for (found, bound) in found.iter().zip(&bounds) {
                assert!(*found <= bound * (1.0 + 1e-9), "{name} {method}: {found} of {bound}");
            }
            let [found, bound] = [found, bounds].map(|errors| errors.iter().sum::<f64>());
            assert!(found < 0.7 * bound, "{name} {method}: {found} of {bound}");
        }
    }
}

#[test]
fn errors_weighted_by_second_moments_get_smaller() {
    let mut net = net(10);
    let moments = Arc::new(observed(&mut net, &batches(11)));
    let weights = moments.get("layer").unwrap().diagonal();
    let error = |name: &str, method: &str| {
        let tensor = quantized(&net, &recipe(name, method, &moments));
        let errors = values(10).into_iter().zip(tensor.dequantize()).enumerate();
        errors.map(|(at, (x, y))| weights[at % INPUTS] * f64::from(x - y).powi(2)).sum::<f64>()
    };
    for name in ["per-block-symmetric-int4", "per-block-affine-int3", "per-block-minimum-int3"] {
        let nearest = if name.contains("minimum") { "min-max" } else { "mse" };
        assert!(error(name, "weighted-mse") < 0.97 * error(name, nearest), "{name}");
    }
}

#[test]
fn inputs_that_are_zero_and_moments_of_one_row_are_quantized() {
    let net = net(12);
    for rows in [0, 1] {
        let mut layer = LayerMoments::for_inputs_up_to(1.0, INPUTS).unwrap();
        let row: Vec<f32> = (0..INPUTS).map(|k| if k % 3 == 0 { 0.0 } else { 1.0 }).collect();
        layer.add(&row[..rows * INPUTS]).unwrap();
        let mut moments = SecondMoments::new();
        moments.insert("layer", layer);
        let moments = Arc::new(moments);
        for method in ["weighted-mse", "gptq", "gptq:descending"] {
            let name = "per-block-full-range-int4";
            let tensor = quantized(&net, &recipe(name, method, &moments));
            assert!(tensor.dequantize().iter().all(|value| value.is_finite()), "{method}");
        }
    }
}

#[test]
fn a_method_without_its_moments_is_an_error_with_the_path() {
    let int4 = "per-block-symmetric-int4";
    let error = |moments: SecondMoments, method: &str| {
        let error = recipe(int4, method, &Arc::new(moments)).plan(&net(13)).unwrap_err();
        let QuantizeError::Param { id, source, .. } = error else { panic!("{error}") };
        assert_eq!(id, "layer.weight");
        source
    };
    for method in ["weighted-mse", "gptq"] {
        assert_eq!(error(SecondMoments::new(), method), WeightError::NoMoments);
    }
    let mut moments = SecondMoments::new();
    moments.insert("layer", LayerMoments::from_diagonal(vec![1.0; 3], 1).unwrap());
    let expected = WeightError::MomentColumns { expected: INPUTS, found: 3 };
    assert_eq!(error(moments.clone(), "weighted-mse"), expected);
    moments.insert("layer.weight", LayerMoments::from_diagonal(vec![1.0; INPUTS], 1).unwrap());
    assert_eq!(error(moments.clone(), "gptq"), WeightError::DiagonalMoments);
    assert!(recipe(int4, "weighted-mse", &Arc::new(moments)).plan(&net(13)).is_ok());
    let calibration = WeightedMseCalibration {};
    let error = Quantizer { calibration, scheme: scheme(int4) }.plan(&net(13)).unwrap_err();
    assert!(error.to_string().contains("layer.weight"), "{error}");
}

#[test]
fn a_plan_applies_the_codes_that_it_was_made_with() {
    let mut net = net(14);
    let moments = Arc::new(observed(&mut net, &batches(15)));
    let recipe = recipe("per-block-full-range-int4", "gptq", &moments);
    let plan = recipe.plan(&net).unwrap();
    let expected = net.clone().quantize_weights(&recipe).unwrap();
    assert_eq!(plan.apply(net.clone()).unwrap(), expected);
    // A plan from a file has no moments.
    let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    let error = again.apply(net).unwrap_err();
    assert!(matches!(error, QuantizeError::Param { source: WeightError::NoMoments, .. }));
}

#[test]
fn budgets_take_methods_that_need_moments() {
    let mut net = net(16);
    let moments = Arc::new(observed(&mut net, &batches(17)));
    let precisions: [Precision; 2] = [
        Precision::new(scheme("per-block-symmetric-int8"), "gptq".parse().unwrap()),
        Precision::new(scheme("per-block-symmetric-int4"), "gptq".parse().unwrap()),
    ];
    let mixed = MixedPrecision::new("16%".parse().unwrap(), precisions)
        .recipe(Recipe::new().moments(moments.clone()))
        .plan(&net)
        .unwrap();
    let found = mixed.plan.apply(net.clone()).unwrap();
    let expected = quantized(&net, &recipe("per-block-symmetric-int4", "gptq", &moments));
    assert_eq!(found.layer.weight.quantized(), Some(&expected));
}

#[test]
fn inputs_that_are_not_finite_are_errors_with_the_path_and_leave_the_model() {
    let mut net = net(18);
    let before = net.clone();
    let batch = ArrayD::from_elem(vec![1, INPUTS], f32::NAN);
    let observed =
        SecondMoments::observe(&mut net, [&batch], |_| true, |net, batch| net.layer.forward(batch));
    let error = observed.unwrap_err().to_string();
    assert!(error.starts_with("batch 0: layer.input"), "{error}");
    assert_eq!(net, before);
    assert!(net.layer.forward(&batch).is_ok());
}

#[test]
fn only_layers_that_are_asked_for_have_moments() {
    let mut net = net(19);
    let batches = batches(20);
    let moments = SecondMoments::observe(
        &mut net,
        &batches,
        |_| false,
        |net, batch| net.layer.forward(batch),
    );
    assert_eq!(moments.unwrap().iter().count(), 0);
}

#[test]
fn activations_are_calibrated_by_the_ranges_of_mse() {
    let grid = scheme("per-tensor-affine-int4").grid();
    fn range(
        calibration: &impl Calibration,
        grid: quant::scheme::Grid,
    ) -> Option<quant::scheme::Range> {
        let mut observer = calibration.observer();
        quant::calibration::Observer::observe(&mut observer, &[0.1, 0.2, -0.3, 9.0]).unwrap();
        calibration.range(&observer, grid)
    }
    let expected = range(&MseCalibration {}, grid);
    assert_eq!(range(&GptqCalibration { descending: true }, grid), expected);
    assert_eq!(range(&LeastSquaresCalibration {}, grid), expected);
    assert_ne!(range(&MinMaxCalibration {}, grid), None);
}
