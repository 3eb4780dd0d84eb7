//! Learned scales and steps at their limits: what is refused leaves the last good state.

use candle_core::{Device, Tensor};
use candle_tests::{LEARNED, Mlp, bits, set, step, tensor, values, variable};
use quant::record::Record;
use quant::scheme::ActivationScheme;
use quant_nn::training::{Adam, OptimizerError, Qat, QatError, Sgd};
use tests::errors::chain;

fn observing(scheme: &str) -> Qat<Mlp> {
    let recipe = candle_tests::recipe(scheme, ActivationScheme::STATIC);
    Qat::new(Mlp::new(1), &recipe, LEARNED).unwrap()
}

/// A model whose weights and inputs have learned scales that are set.
fn fake_quantized(scheme: &str) -> Qat<Mlp> {
    let mut qat = observing(scheme);
    qat.train(|model| model.forward(&tensor(&[8, 6], 1))).unwrap();
    qat.enable_fake_quant().unwrap();
    qat.train(|model| model.forward(&tensor(&[8, 6], 1))).unwrap();
    qat
}

#[test]
fn a_step_out_of_the_finite_numbers_changes_nothing() {
    let qat = fake_quantized("per-channel-symmetric-int4");
    let adam = Adam::new(qat.model()).unwrap();
    let sgd = Sgd::new(qat.model(), 0.9).unwrap();
    let good = qat.checkpoint(&adam).unwrap();
    let mut gradients = step(&qat, 1);
    let (mut same, mut plain) = (adam.clone(), sgd.clone());
    for rate in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let error = same.step(qat.model(), &gradients, rate).unwrap_err();
        assert!(matches!(error, OptimizerError::Rate { .. }), "{error}");
        assert_eq!(error.to_string(), format!("the rate is not finite: {rate}"));
        assert!(plain.step(qat.model(), &gradients, rate).is_err());
    }
    for rate in [1e38, 1e300] {
        let error = same.step(qat.model(), &gradients, rate * 1e3).unwrap_err();
        assert!(matches!(error, OptimizerError::Diverged { .. }), "{error}");
        assert!(
            chain(&error)
                .starts_with("fc1.weight: the step leads out of the finite numbers: element")
        );
        assert!(plain.step(qat.model(), &gradients, rate * 1e3).is_err());
    }
    // The square of this gradient is infinite, and the step would be 0 from then on.
    let weight = variable(&qat, "fc2.weight");
    let large = Tensor::full(1e30f32, (4, 9), &Device::Cpu).unwrap();
    gradients.insert(weight.as_tensor(), large);
    let error = same.step(qat.model(), &gradients, 0.1).unwrap_err();
    assert!(
        matches!(&error, OptimizerError::Diverged { id, .. } if *id == "fc2.weight"),
        "{error}"
    );
    // `fc1` comes before, and has not moved either.
    let nan = Tensor::full(f32::NAN, (4, 9), &Device::Cpu).unwrap();
    gradients.insert(weight.as_tensor(), nan);
    for error in [same.step(qat.model(), &gradients, 0.1), plain.step(qat.model(), &gradients, 0.1)]
    {
        let error = error.unwrap_err();
        assert!(matches!(&error, OptimizerError::NonFinite { id, .. } if *id == "fc2.weight"));
    }
    assert_eq!(qat.checkpoint(&same).unwrap(), good);
    assert_eq!(Record::from_module(&plain).unwrap(), Record::from_module(&sgd).unwrap());
}

#[test]
fn a_learned_scale_is_halved_until_it_would_be_invalid_and_no_further() {
    for path in ["fc1.weight.scale", "fc2.input.scale"] {
        let qat = fake_quantized("per-tensor-symmetric-int4");
        let gradients = variable(&qat, path).sum_all().unwrap().backward().unwrap();
        let mut sgd = Sgd::new(qat.model(), 0.0).unwrap();
        let failed = (0..200).find_map(|_| sgd.step(qat.model(), &gradients, 1e6).err());
        let Some(OptimizerError::Scale { id, source }) = &failed else { panic!("{failed:?}") };
        assert_eq!(id, path);
        assert!(source.scale < f32::MIN_POSITIVE);
        let last = values(&variable(&qat, path));
        assert!(last.iter().all(|scale| scale.is_normal() && *scale < 2.4e-38), "{last:?}");

        // Training goes on from there, here and from a checkpoint.
        qat.model().forward(&tensor(&[3, 6], 1)).unwrap();
        let checkpoint = qat.checkpoint(&sgd).unwrap();
        let other = fake_quantized("per-tensor-symmetric-int4");
        let (restored, _) = other.restore(sgd, checkpoint).unwrap();
        assert_eq!(values(&variable(&restored, path)), last);
    }
}

#[test]
fn a_scale_of_zero_is_an_error_once_it_was_set() {
    let x = tensor(&[3, 6], 1);
    for scheme in ["per-tensor-symmetric-int4", "per-channel-affine-int8"] {
        let qat = fake_quantized(scheme);
        let adam = Adam::new(qat.model()).unwrap();
        let good = values(&variable(&qat, "fc1.weight.scale"));
        set(&qat, "fc1.weight.scale", 0.0);
        let error = qat.model().forward(&x).unwrap_err();
        let expected =
            "fc1: the weight cannot be quantized: group 0: the scale 0e0 is not a normal f32";
        assert_eq!(chain(&error), expected);
        assert!(matches!(qat.export(), Err(QatError::Weight { .. })));
        let error = qat.checkpoint(&adam).unwrap_err();
        let expected = "fc1.weight: the weight cannot be quantized: group 0: the scale 0e0 is not a normal f32";
        assert_eq!(chain(&error), expected);
        variable(&qat, "fc1.weight.scale")
            .set(&Tensor::from_slice(&good, good.len(), &Device::Cpu).unwrap())
            .unwrap();
        qat.model().forward(&x).unwrap();
        qat.checkpoint(&adam).unwrap();
    }
}

#[test]
fn scales_that_were_never_set_are_kept_so_by_a_checkpoint() {
    let mut qat = observing("per-tensor-symmetric-int4");
    qat.train(|model| model.forward(&tensor(&[8, 6], 1))).unwrap();
    qat.enable_fake_quant().unwrap();
    let adam = Adam::new(qat.model()).unwrap();
    let checkpoint = qat.checkpoint(&adam).unwrap();
    // Also in a model whose own scales were set.
    let (restored, _) =
        fake_quantized("per-tensor-symmetric-int4").restore(adam, checkpoint).unwrap();
    let x = tensor(&[3, 6], 1);
    let outputs = [&qat, &restored].map(|qat| bits(&qat.model().forward(&x).unwrap()));
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn what_restore_refuses_no_checkpoint_has() {
    let bad = [
        ("fc1.weight.scale", f32::NAN),
        ("fc1.weight.scale", -0.5),
        ("fc2.weight.scale", 1e-40),
        ("fc1.weight.zero_point", 0.5),
        ("fc1.weight.zero_point", 100.0),
        ("fc1.input.scale", 0.0),
        ("fc2.input.scale", f32::INFINITY),
    ];
    for (path, value) in bad {
        let qat = fake_quantized("per-channel-affine-int4");
        let adam = Adam::new(qat.model()).unwrap();
        let mut checkpoint = qat.checkpoint(&adam).unwrap();
        let var = variable(&qat, path);
        let values = vec![value; var.elem_count()];
        let tensor = quant::Tensor::from_values(var.dims(), values).unwrap();
        checkpoint.insert(format!("model.{path}"), tensor);
        let restored = fake_quantized("per-channel-affine-int4").restore(adam.clone(), checkpoint);
        let refused = restored.map(drop).unwrap_err();
        set(&qat, path, value);
        let not_written = qat.checkpoint(&adam).unwrap_err();
        assert_eq!(chain(&not_written), chain(&refused));
        let id = path.rsplit_once('.').unwrap().0;
        let (QatError::Weight { id: found, .. } | QatError::Scale { id: found, .. }) = &refused
        else {
            panic!("{refused}")
        };
        assert_eq!(found, id);
    }
}
