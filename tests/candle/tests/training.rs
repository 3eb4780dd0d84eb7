//! The phases of training, what is saved of it, and what goes wrong.

use candle_core::{DType, Device, Tensor, Var};
use candle_tests::{LEARNED, Mlp, RANGES, bits, check_gradient, set, step, tensor, values, var};
use ndarray::{ArrayD, IxDyn};
use quant::activation::{ActivationError, ActivationMode};
use quant::quantize::WeightError;
use quant::record::{Difference, Record, Recorder};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, Param, Recipe, RecordError, Rule};
use quant_nn::candle::emulate_device;
use quant_nn::training::{
    Adam, OptimizerError, Phase, Qat, QatError, QatOptions, Sgd, cross_entropy, distillation,
    train_mode,
};
use quant_nn::{BatchNorm2d, Conv2d, Conv2dOptions, ConvNorm2d, FoldNorms, ForwardError, Linear};
use tests::errors::chain;

fn recipe(scheme: &str) -> Recipe {
    candle_tests::recipe(scheme, ActivationScheme::STATIC)
}

fn qat(options: QatOptions) -> Qat<Mlp> {
    Qat::new(Mlp::new(1), &recipe("per-channel-symmetric-int4"), options).unwrap()
}

#[test]
fn phases_follow_each_other_and_nothing_else() {
    let mut qat = qat(LEARNED);
    assert_eq!(qat.phase(), Phase::Observe);
    let error = qat.freeze().unwrap_err();
    assert!(matches!(error, QatError::Phase { found: Phase::Observe, .. }));
    let expected = "`frozen` follows the phase `fake`, but training is in `observe`";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(qat.clone().convert(), Err(QatError::Phase { .. })));
    assert!(matches!(qat.export(), Err(QatError::Phase { .. })));

    // A pass outside of `train` is not seen.
    qat.model().forward(&tensor(&[3, 6], 1)).unwrap();
    let error = qat.enable_fake_quant().unwrap_err();
    assert_eq!(error.to_string(), "fc1.input, fc2.input: no training data reached this input");
    assert_eq!(qat.phase(), Phase::Observe);

    qat.train(|model| model.forward(&tensor(&[3, 6], 1))).unwrap();
    qat.enable_fake_quant().unwrap();
    assert!(matches!(
        qat.enable_fake_quant(),
        Err(QatError::Phase { found: Phase::FakeQuant, .. })
    ));
    qat.freeze().unwrap();
    assert!(matches!(qat.freeze(), Err(QatError::Phase { found: Phase::Frozen, .. })));
    let model = qat.convert().unwrap();
    assert!(model.fc1.weight.is_quantized() && !model.fc1.bias.unwrap().is_quantized());
    assert!(matches!(model.fc1.input.mode(), ActivationMode::Static(_)));
}

#[test]
fn what_cannot_be_trained_is_said_at_once_and_by_name() {
    let rule = Rule::quantize("fc3.*", "per-tensor-symmetric-int8".parse().unwrap());
    let error = Qat::new(Mlp::new(1), &Recipe::new().rule(rule), LEARNED).unwrap_err();
    assert!(matches!(error, QatError::Recipe(_)), "{error}");

    let error = Qat::new(Mlp::new(1), &Recipe::new(), LEARNED).unwrap_err();
    assert_eq!(error.to_string(), "the recipe quantizes no parameter of the model");

    let constant = Linear::new(tensor(&[2, 3], 1), None).unwrap();
    let error = Qat::new(constant, &recipe("per-tensor-symmetric-int8"), LEARNED).unwrap_err();
    let expected =
        "weight: cannot be trained with quantization: the storage is not a variable of candle";
    assert_eq!(chain(&error), expected);

    let host = Linear::new(ArrayD::<f32>::zeros(IxDyn(&[2, 3])), None).unwrap();
    let error = Qat::new(host, &recipe("per-tensor-symmetric-int8"), LEARNED).unwrap_err();
    assert!(matches!(error, QatError::Untrainable { .. }));

    let entropy = recipe("per-tensor-symmetric-int8").calibration("entropy".parse().unwrap());
    let error = Qat::new(Mlp::new(1), &entropy, LEARNED).unwrap_err();
    assert!(chain(&error).contains("needs groups of 256 values or more"), "{}", chain(&error));

    let wide = Var::zeros((2, 3), DType::F64, &Device::Cpu).unwrap();
    let wide = Linear::new(wide, None).unwrap();
    let error = Qat::new(wide, &recipe("per-tensor-symmetric-int8"), LEARNED).unwrap_err();
    assert!(chain(&error).contains("not of the type f32"), "{error}");
}

#[test]
fn ranges_move_in_training_until_they_are_frozen() {
    let mut qat = qat(RANGES);
    qat.train(|model| model.forward(&tensor(&[3, 6], 1))).unwrap();
    qat.enable_fake_quant().unwrap();
    let mode = |qat: &Qat<Mlp>| qat.model().fc1.input.mode();
    let before = mode(&qat);
    let large = (tensor(&[3, 6], 2) * 9.0).unwrap();
    qat.model().forward(&large).unwrap();
    assert_eq!(mode(&qat), before);
    qat.train(|model| model.forward(&large)).unwrap();
    assert_ne!(mode(&qat), before);
    qat.freeze().unwrap();
    let before = mode(&qat);
    qat.train(|model| model.forward(&large)).unwrap();
    assert_eq!(mode(&qat), before);
}

#[test]
fn scales_learn_in_the_middle_phase_alone_and_weights_always() {
    let paths: Vec<String> =
        qat(LEARNED).model().params().iter().map(|p| p.id.to_string()).collect();
    assert_eq!(paths[..4], ["fc1.weight", "fc1.weight.scale", "fc1.bias", "fc1.input.scale"]);
    let snapshot = |qat: &Qat<Mlp>| Record::from_module(qat.model()).unwrap();
    let moved = |qat: &Qat<Mlp>, before: &Record, path: &str| {
        snapshot(qat).get(path).unwrap().values() != before.get(path).unwrap().values()
    };
    let mut qat = qat(LEARNED);
    let mut adam = Adam::new(qat.model()).unwrap();
    for phase in Phase::ALL {
        match phase {
            Phase::Observe => {}
            Phase::FakeQuant => qat.enable_fake_quant().unwrap(),
            _ => qat.freeze().unwrap(),
        }
        // The first pass sets what the second moves.
        qat.train(|model| model.forward(&tensor(&[8, 6], 1))).unwrap();
        let before = snapshot(&qat);
        adam.step(qat.model(), &step(&qat, 1), 0.01).unwrap();
        let learns = phase == Phase::FakeQuant;
        assert!(moved(&qat, &before, "fc1.weight"), "{phase}");
        for scale in ["fc1.weight.scale", "fc1.input.scale", "fc2.input.scale"] {
            assert_eq!(moved(&qat, &before, scale), learns, "{phase} {scale}");
        }
    }
}

#[test]
fn training_goes_on_from_a_checkpoint_with_equal_bits() {
    for options in [LEARNED, RANGES] {
        for pause in [2, 5, 8] {
            let run = |steps: std::ops::Range<u32>, mut qat: Qat<Mlp>, mut adam: Adam| {
                for number in steps {
                    match number {
                        3 => qat.enable_fake_quant().unwrap(),
                        7 => qat.freeze().unwrap(),
                        _ => {}
                    }
                    let gradients = step(&qat, number);
                    adam.step(qat.model(), &gradients, 0.02).unwrap();
                }
                (qat, adam)
            };
            let begin = || {
                let qat = qat(options);
                let adam = Adam::new(qat.model()).unwrap();
                (qat, adam)
            };
            let (whole, fresh) = begin();
            let (whole, _) = run(0..10, whole, fresh);

            let (first, adam) = begin();
            let (first, adam) = run(0..pause, first, adam);
            let recorder = BincodeRecorder::default();
            let bytes = first.checkpoint(&adam).unwrap().save_bytes(&recorder).unwrap();
            // Other weights, to be sure that those of the checkpoint are used.
            let other = Qat::new(Mlp::new(99), &recipe("per-channel-symmetric-int4"), options);
            let other = other.unwrap();
            let adam = Adam::new(other.model()).unwrap();
            let record = recorder.load(&mut bytes.as_slice(), Some(bytes.len() as u64)).unwrap();
            let (second, adam) = other.restore(adam, record).unwrap();
            let (second, _) = run(pause..10, second, adam);

            let [a, b] = [&whole, &second].map(|qat| Record::from_module(qat.model()).unwrap());
            assert_eq!(a, b, "paused at {pause}");
            assert_eq!(whole.export().unwrap(), second.export().unwrap());
        }
    }
}

#[test]
fn records_that_are_no_checkpoint_of_this_training_are_refused() {
    let other = || (qat(RANGES), Adam::new(qat(RANGES).model()).unwrap());
    let (own, adam) = other();
    let plain = Record::from_module(own.model()).unwrap();
    assert!(matches!(own.restore(adam, plain), Err(QatError::NoCheckpoint)));

    let (own, adam) = other();
    let (trained, of_trained) = (qat(LEARNED), Adam::new(qat(LEARNED).model()).unwrap());
    let checkpoint = trained.checkpoint(&of_trained).unwrap();
    let error = own.restore(adam, checkpoint).unwrap_err();
    let QatError::Record(RecordError::Differences(found)) = error else { panic!("{error}") };
    assert!(found.iter().any(|d| matches!(d, Difference::Unexpected { .. })), "{found:?}");

    let (own, adam) = other();
    let mut checkpoint = own.checkpoint(&adam).unwrap();
    checkpoint.insert_metadata("quant.training.phase", "frozen");
    let error = own.restore(adam, checkpoint).unwrap_err();
    assert!(matches!(error, QatError::MixedPhases { .. }), "{error}");
}

#[test]
fn a_state_of_training_that_makes_no_sense_is_refused() {
    let mut trained = qat(RANGES);
    trained.train(|model| model.forward(&tensor(&[3, 6], 1))).unwrap();
    trained.enable_fake_quant().unwrap();
    let record = Record::from_module(trained.model()).unwrap();
    let state = record.states()[0].clone();
    assert_eq!(state.data[..2], [3, 1]);
    for (at, byte) in [(1, 9), (3, 7), (3, 3)] {
        let mut damaged = record.clone();
        let mut state = state.clone();
        state.data[at] = byte;
        damaged.insert_state(state);
        let error = qat(RANGES).model().clone().load_record(damaged).unwrap_err();
        let RecordError::Differences(found) = error else { panic!("{error}") };
        assert!(matches!(found[0], Difference::State { .. }), "{found:?}");
    }
    // Nested without end.
    let mut deep = record;
    deep.insert_state(quant::record::RecordState { data: [3, 0, 0].repeat(100_000), ..state });
    assert!(qat(RANGES).model().clone().load_record(deep).is_err());
}

#[test]
fn bad_numbers_are_errors_with_the_layer() {
    let mut qat = qat(LEARNED);
    qat.train(|model| model.forward(&tensor(&[3, 6], 1))).unwrap();
    qat.enable_fake_quant().unwrap();
    let x = tensor(&[3, 6], 1);
    let nan = Tensor::full(f32::NAN, (3, 6), &Device::Cpu).unwrap();
    let error = qat.model().forward(&nan).unwrap_err();
    assert!(matches!(error, ForwardError::Activation(_)), "{error}");
    assert_eq!(chain(&error), "fc1.input: the input is not finite: element 0 is NaN");
    let on_a_device = emulate_device(|| qat.model().forward(&nan)).unwrap_err();
    assert_eq!(on_a_device, error);

    let weight = qat.model().fc1.weight.as_float().unwrap().clone();
    let good = weight.as_detached_tensor().copy().unwrap();
    weight.set(&Tensor::full(f32::INFINITY, (9, 6), &Device::Cpu).unwrap()).unwrap();
    let error = qat.model().forward(&x).unwrap_err();
    assert_eq!(chain(&error), "fc1: the weight cannot be quantized: element 0 is inf");
    assert!(matches!(
        qat.export(),
        Err(QatError::Weight { source: WeightError::NonFinite(_), .. })
    ));
    weight.set(&good).unwrap();
    qat.model().forward(&x).unwrap();

    // An optimizer of one's own may do what ours do not.
    let set = |path: &str, value: f32| set(&qat, path, value);
    set("fc1.weight.scale", -0.5);
    let error = qat.model().forward(&x).unwrap_err();
    assert!(matches!(error, ForwardError::Weight { source: WeightError::Scale { .. }, .. }));
    set("fc1.weight.scale", 0.5);
    set("fc2.input.scale", f32::NAN);
    let error = qat.model().forward(&x).unwrap_err();
    assert_eq!(
        chain(&error),
        "fc2: the scale of the input is invalid: the scale NaN is not a normal f32"
    );
    assert!(matches!(qat.convert(), Err(QatError::Convert(_))));
}

#[test]
fn optimizers_refuse_what_they_were_not_made_for() {
    let host = Linear::new(ArrayD::<f32>::zeros(IxDyn(&[2, 3])), None).unwrap();
    assert_eq!(Adam::new(&host).unwrap_err(), OptimizerError::NoVariables);

    let plain = Mlp::new(1);
    let mut adam = Adam::new(&plain).unwrap();
    let mut qat = Qat::new(plain, &recipe("per-channel-symmetric-int4"), LEARNED).unwrap();
    qat.train(|model| model.forward(&tensor(&[8, 6], 1))).unwrap();
    qat.enable_fake_quant().unwrap();
    let error = adam.step(qat.model(), &step(&qat, 1), 0.1).unwrap_err();
    assert_eq!(error, OptimizerError::UnknownParam { id: "fc1.weight.scale".into() });

    let model = Mlp::new(1);
    let infinite = (model.forward(&tensor(&[2, 6], 1)).unwrap() * f64::INFINITY).unwrap();
    let gradients = infinite.sum_all().unwrap().backward().unwrap();
    let mut sgd = Sgd::new(&model, 0.9).unwrap();
    let error = sgd.step(&model, &gradients, 0.1).unwrap_err();
    assert!(matches!(error, OptimizerError::NonFinite { .. }), "{error}");

    let mut sgd = sgd.map(&mut ToQuantized);
    assert!(sgd.step(&model, &gradients, 0.1).is_err());
    let mut adam = Adam::new(&model).unwrap().map(&mut ToQuantized);
    assert_eq!(adam.step(&model, &gradients, 0.1).unwrap_err(), OptimizerError::Quantized);
}

/// What nobody should do to an optimizer.
struct ToQuantized;

impl quant::ModuleMapper for ToQuantized {
    fn map_float(&mut self, _: quant::ParamId, tensor: quant::Tensor) -> quant::Tensor {
        let scheme = "per-tensor-symmetric-int8".parse().unwrap();
        let (shape, values) = (tensor.shape().to_vec(), tensor.values());
        quant::quantize::quantize_values(&shape, &values, scheme, &quant::MinMaxCalibration {})
            .unwrap()
            .into()
    }
}

#[test]
fn optimizers_follow_their_formulas() {
    let x = Param::new(Var::new(&[1.0f32, -2.0], &Device::Cpu).unwrap());
    let loss = || {
        let x = x.as_float().unwrap();
        (x.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap().backward().unwrap()
    };
    let mut sgd = Sgd::new(&x, 0.5).unwrap();
    sgd.step(&x, &loss(), 0.1).unwrap();
    assert_eq!(values(x.as_float().unwrap()), [0.9, -1.8]);
    sgd.step(&x, &loss(), 0.1).unwrap(); // v = 0.5 · 1 + 0.9
    assert!((values(x.as_float().unwrap())[0] - 0.76).abs() < 1e-6);
}

/// The formulas of Kingma and Ba in f64. The gradients differ in size and sign from step to step, so
/// that the moments and their corrections matter.
#[test]
fn adam_follows_its_formulas_for_many_steps() {
    let start = [1.0f32, -2.0, 0.25];
    let x = Param::new(Var::new(&start, &Device::Cpu).unwrap());
    let mut adam = Adam::new(&x).unwrap();
    let (mut expected, mut m, mut v) = (start.map(f64::from), [0.0f64; 3], [0.0f64; 3]);
    for t in 1..=8 {
        let factor = [1.0, -3.0, 0.5, 10.0][t % 4];
        let loss = (x.as_float().unwrap().sqr().unwrap() * (0.5 * factor)).unwrap();
        adam.step(&x, &loss.sum_all().unwrap().backward().unwrap(), 0.1).unwrap();
        for i in 0..3 {
            let g = factor * expected[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (m, v) =
                (m[i] / (1.0 - 0.9f64.powi(t as i32)), v[i] / (1.0 - 0.999f64.powi(t as i32)));
            expected[i] -= 0.1 * m / (v.sqrt() + 1e-8);
        }
        for (found, expected) in values(x.as_float().unwrap()).iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "step {t}: {found} {expected}");
        }
    }
    // Descent by the sign of the gradient would end elsewhere.
    let by_sign = (1..=8).map(|t| if t % 4 == 1 { 1.0 } else { -1.0 }).sum::<f64>();
    assert!((expected[0] - (1.0 + 0.1 * by_sign)).abs() > 0.05, "{expected:?}");
}

/// The smooth parts, against finite differences: the layers in float, and the losses.
#[test]
fn gradients_are_finite_differences() {
    let x = var(&[3, 4], 5);
    let teacher = tensor(&[3, 4], 6);
    check_gradient("cross entropy", &x, &|x| cross_entropy(x, &[1, 3, 0]).unwrap());
    check_gradient("distillation", &x, &|x| distillation(x, &teacher, 2.0).unwrap());
    assert!(
        distillation(&teacher, &teacher, 3.0).unwrap().to_scalar::<f32>().unwrap().abs() < 1e-6
    );
}

#[test]
fn layers_have_the_gradients_of_finite_differences() {
    use quant_nn::{Backend, Embedding, LayerNorm, Pool, Unary};
    let weighted = |y: Tensor| {
        let weights = tensor(y.dims(), 77);
        (y * weights).unwrap().sum_all().unwrap()
    };
    let image = var(&[2, 2, 5, 4], 1);
    let flat = var(&[3, 6], 2);
    for (name, function) in
        [("gelu", Unary::Gelu), ("tanh", Unary::Tanh), ("sigmoid", Unary::Sigmoid)]
    {
        check_gradient(name, &flat, &|x| weighted(Tensor::unary(x.clone(), function).unwrap()));
    }
    check_gradient("softmax", &flat, &|x| weighted(Tensor::softmax(x.clone()).unwrap()));
    let norm = LayerNorm::new(tensor(&[6], 3), tensor(&[6], 4), 1e-5);
    check_gradient("layer norm", &flat, &|x| weighted(norm.forward(x).unwrap()));
    for pool in [
        Pool::Max { kernel_size: [2, 2], stride: [1, 2] },
        Pool::Average { kernel_size: [3, 2], stride: [2, 1] },
    ] {
        check_gradient("pool", &image, &|x| weighted(Tensor::pool2d(x, pool).unwrap()));
    }
    for (groups, inputs) in [(1, 2), (2, 1)] {
        let options =
            Conv2dOptions::new().stride([2, 1]).padding([1, 2]).dilation([1, 2]).groups(groups);
        let weight = var(&[4, inputs, 3, 2], 5);
        let conv = Conv2d::new(weight.as_tensor().clone(), Some(tensor(&[4], 6)), options).unwrap();
        check_gradient("convolution by its input", &image, &|x| weighted(conv.forward(x).unwrap()));
        check_gradient("convolution by its weight", &weight, &|weight| {
            let conv = Conv2d::new(weight.clone(), None, options).unwrap();
            weighted(conv.forward(&image).unwrap())
        });
        let bias = var(&[4], 8);
        check_gradient("convolution by its bias", &bias, &|bias| {
            let conv = Conv2d::new(weight.as_tensor().clone(), Some(bias.clone()), options);
            weighted(conv.unwrap().forward(&image).unwrap())
        });
    }
    let table = var(&[5, 3], 9);
    check_gradient("embedding", &table, &|table| {
        weighted(Embedding::new(table.clone()).unwrap().forward(&[4, 0, 4]).unwrap())
    });
    let norm = |weight: &Tensor, bias: &Tensor| BatchNorm2d {
        weight: Param::new(weight.clone()),
        bias: Param::new(bias.clone()),
        running_mean: Param::new(tensor(&[2], 11)),
        running_var: Param::new((tensor(&[2], 12) + 1.5).unwrap()),
        epsilon: 1e-5,
    };
    let (gamma, beta) = (var(&[2], 13), var(&[2], 14));
    check_gradient("batch norm by its input", &image, &|x| {
        weighted(norm(&gamma, &beta).forward(x).unwrap())
    });
    check_gradient("learning batch norm by its input", &image, &|x| {
        weighted(train_mode(|| norm(&gamma, &beta).forward(x)).unwrap())
    });
    check_gradient("batch norm by its weight", &gamma, &|g| {
        weighted(norm(g, &beta).forward(&image).unwrap())
    });
    check_gradient("batch norm by its bias", &beta, &|b| {
        weighted(norm(&gamma, b).forward(&image).unwrap())
    });
}

fn conv_norm(seed: u32) -> ConvNorm2d<Var> {
    let conv = Conv2d::new(var(&[3, 2, 3, 3], seed), None, Conv2dOptions::default()).unwrap();
    let norm = BatchNorm2d {
        weight: Param::new(var(&[3], seed + 1)),
        bias: Param::new(var(&[3], seed + 2)),
        running_mean: Param::new(Var::zeros(3, DType::F32, &Device::Cpu).unwrap()),
        running_var: Param::new(Var::ones(3, DType::F32, &Device::Cpu).unwrap()),
        epsilon: 1e-5,
    };
    ConvNorm2d::new(conv, norm)
}

#[test]
fn statistics_follow_the_batches_and_are_not_descended() {
    let layer = conv_norm(1);
    let x = (tensor(&[8, 2, 6, 6], 4) * 3.0).unwrap();
    let stats = |layer: &ConvNorm2d<Var>| {
        let norm = layer.norm.as_ref().unwrap();
        [&norm.running_mean, &norm.running_var].map(|p| values(p.as_float().unwrap()))
    };
    let before = stats(&layer);
    let loss = layer.forward(&x).unwrap().sqr().unwrap().sum_all().unwrap();
    let mut adam = Adam::new(&layer).unwrap();
    adam.step(&layer, &loss.backward().unwrap(), 0.1).unwrap();
    assert_eq!(stats(&layer), before);
    for _ in 0..100 {
        train_mode(|| layer.forward(&x)).unwrap();
    }
    // They have arrived at the batch's own: what is normalized by them has mean β, deviation |γ|.
    let y = layer.forward(&x).unwrap();
    let norm = layer.norm.as_ref().unwrap();
    let means = values(&y.mean((0, 2, 3)).unwrap());
    for (mean, beta) in means.iter().zip(values(norm.bias.as_float().unwrap())) {
        assert!((mean - beta).abs() < 1e-3, "{mean} {beta}");
    }
}

#[test]
fn a_norm_is_folded_in_training_with_gradients_for_all_of_it() {
    let scheme = "per-channel-symmetric-int8";
    let mut qat = Qat::new(conv_norm(1), &recipe(scheme), LEARNED).unwrap();
    let x = tensor(&[4, 2, 6, 6], 4);
    for _ in 0..30 {
        qat.train(|layer| layer.forward(&x)).unwrap();
    }
    let float = values(&qat.model().forward(&x).unwrap());
    qat.enable_fake_quant().unwrap();
    let fake = qat.train(|layer| layer.forward(&x)).unwrap();
    let far = values(&fake).iter().zip(&float).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 0.1, "{far}");
    let gradients = fake.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let layer = qat.model();
    let norm = layer.norm.as_ref().unwrap();
    for (param, has) in [
        (&layer.conv.weight, true),
        (&norm.weight, true),
        (&norm.bias, true),
        (&norm.running_mean, false),
        (&norm.running_var, false),
    ] {
        assert_eq!(gradients.get(param.as_float().unwrap()).is_some(), has);
    }
    let trained = bits(&qat.model().forward(&x).unwrap());
    let converted = qat.convert().unwrap();
    assert!(converted.norm.is_none() && converted.conv.weight.is_quantized());
    assert_eq!(bits(&converted.forward(&x).unwrap()), trained);
    let quantized = conv_norm(1).quantize_weights(recipe(scheme)).unwrap();
    let error = (quantized, 1u8).fold_norms().unwrap_err();
    assert_eq!(
        chain(&error),
        "0: the norm cannot be folded into the convolution: a quantized parameter cannot be folded"
    );
}

#[test]
fn a_layer_in_integers_passes_gradients_on() {
    let recipe = recipe("per-channel-symmetric-int8");
    let layer = Linear::new(var(&[5, 6], 1), None).unwrap();
    let layer = layer.quantize_weights(recipe.clone()).unwrap();
    let layer = layer.calibrate(&recipe, [tensor(&[9, 6], 2)], |l, x| l.forward(&x)).unwrap();
    let layer = layer.convert().unwrap();
    let ActivationMode::Static(quantization) = layer.input.mode() else { panic!() };
    // Half again as large as the calibration data: some values saturate.
    let x = Var::from_tensor(&(tensor(&[2, 6], 2) * 1.5).unwrap()).unwrap();
    let dx = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    let columns = values(&layer.weight.value().sum(0).unwrap());
    let code = |x: f32| {
        let zero_point = f32::from(quantization.params.zero_point());
        (x / quantization.params.scale()).round_ties_even() + zero_point
    };
    let codes = f32::from(quantization.codes.min())..=f32::from(quantization.codes.max());
    let inside: Vec<bool> = values(&x).iter().map(|&x| codes.contains(&code(x))).collect();
    assert!(inside.contains(&true) && inside.contains(&false), "{inside:?}");
    let found = values(dx.get(&x).unwrap());
    for (i, (found, inside)) in found.iter().zip(&inside).enumerate() {
        let expected = if *inside { columns[i % 6] } else { 0.0 };
        assert!((found - expected).abs() < 1e-5, "{i}: {found} {expected}");
    }
}

#[test]
fn forgotten_steps_are_refused_over_candle_too() {
    let net = || {
        let conv = Conv2d::new(var(&[2, 2, 3, 3], 1), None, Conv2dOptions::new()).unwrap();
        (Linear::new(var(&[5, 6], 1), None).unwrap(), conv)
    };
    type Net = (Linear<Var>, Conv2d<Var>);
    let (rows, images) = (tensor(&[2, 6], 2), tensor(&[1, 2, 5, 5], 3));
    let errors = |(linear, conv): &Net| {
        [linear.forward(&rows).unwrap_err(), conv.forward(&images).unwrap_err()]
    };
    let of = |activations| candle_tests::recipe("per-channel-symmetric-int8", activations);

    let dynamic = of(ActivationScheme::DYNAMIC);
    for (i, error) in errors(&net().prepare(&dynamic).unwrap()).into_iter().enumerate() {
        assert_eq!(error, ForwardError::FloatWeight { layer: i.to_string().into() });
    }
    for (i, error) in errors(&net().quantize_weights(&dynamic).unwrap()).into_iter().enumerate() {
        let ForwardError::Activation(error @ ActivationError::Pending { .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(error.id().as_str(), format!("{i}.input"));
    }
    let fixed = of(ActivationScheme::STATIC);
    let forward = |net: &Net, (): ()| net.0.forward(&rows).and_then(|_| net.1.forward(&images));
    let net = net().quantize_weights(&fixed).unwrap().calibrate(&fixed, [()], forward).unwrap();
    for (i, error) in errors(&net).into_iter().enumerate() {
        let ForwardError::Activation(error @ ActivationError::Unconverted { .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(error.id().as_str(), format!("{i}.input"));
    }
}
