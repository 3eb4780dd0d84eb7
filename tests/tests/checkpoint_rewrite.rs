//! A checkpoint quantized on its way from file to file is the one quantized in memory.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use quant::record::Record;
use quant::{BincodeRecorder, Module, QuantizeError, Recipe, RecordError, Rule, Tensor};
use quant_formats::{CheckpointError, FormatError, Options};
use tests::random::Random;
use tests::record::of_everything;

/// Layers of several sizes, with biases.
fn model() -> Record {
    let mut random = Random(1);
    let mut record = of_everything();
    for layer in 0..12 {
        let (rows, columns) = (8 << (layer % 4), 96);
        let mut values = |n: usize| (0..n).map(|_| random.unit()).collect::<Vec<f32>>();
        let weight = Tensor::from_values(&[rows, columns], values(rows * columns)).unwrap();
        record.insert(format!("layers.{layer}.weight"), weight);
        let bias = Tensor::from_values(&[rows], values(rows)).unwrap();
        record.insert(format!("layers.{layer}.bias"), bias);
    }
    record
}

fn recipe() -> Recipe {
    Recipe::new()
        .scheme("per-channel-symmetric-int8".parse().unwrap())
        .rule(Rule::keep("float.**"))
        .rule(
            Rule::quantize("layers.3.weight", "per-block-symmetric-int4".parse().unwrap())
                .calibration("mse".parse().unwrap()),
        )
}

fn options(jobs: usize, max_memory: Option<u64>) -> Options<'static> {
    let mut options = Options::default();
    options.jobs = NonZero::new(jobs);
    options.max_memory = max_memory;
    options
}

#[test]
fn a_stream_gives_the_bytes_of_the_model_in_memory_whatever_the_limits() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.quant"));
    model().save_file(&from, &BincodeRecorder::default()).unwrap();
    let in_memory = model().quantize_weights(recipe()).unwrap();
    let expected = in_memory.save_bytes(&BincodeRecorder::default()).unwrap();
    let expected_plan = recipe().plan(&model()).unwrap();
    for options in [options(1, None), options(2, None), options(3, Some((24 << 20) + 60_000))] {
        let checkpoint = quant_formats::open(&from).unwrap();
        assert_eq!(quant_formats::plan(&checkpoint, &recipe(), options).unwrap(), expected_plan);
        let plan = quant_formats::quantize(&checkpoint, &recipe(), &to, options).unwrap();
        assert_eq!(plan, expected_plan);
        assert_eq!(std::fs::read(&to).unwrap(), expected);
    }
    let (quantized, floats) = (quant_formats::open(&to).unwrap(), directory.path().join("c.quant"));
    quant_formats::dequantize(&quantized, &floats, Options::default()).unwrap();
    let expected = in_memory.dequantize().save_bytes(&BincodeRecorder::default()).unwrap();
    assert_eq!(std::fs::read(&floats).unwrap(), expected);
}

#[test]
fn progress_is_reported_for_every_tensor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    model().save_file(&path, &BincodeRecorder::default()).unwrap();
    let told = Mutex::new(Vec::new());
    let progress = |index: usize, bytes: u64| told.lock().unwrap().push((index, bytes));
    let mut options = options(2, None);
    options.progress = Some(&progress);
    let checkpoint = quant_formats::open(&path).unwrap();
    quant_formats::plan(&checkpoint, &recipe(), options).unwrap();
    let mut told = told.into_inner().unwrap();
    told.sort();
    let expected = checkpoint.entries().iter().enumerate();
    assert_eq!(
        told,
        expected.map(|(i, it)| (i, 4 * it.element_count() as u64)).collect::<Vec<_>>()
    );
}

#[test]
fn an_error_leaves_the_old_file_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.quant"));
    let mut record = model();
    record.insert("bad", Tensor::from_values(&[2, 1], vec![1.0, f32::NAN]).unwrap());
    record.save_file(&from, &BincodeRecorder::default()).unwrap();
    std::fs::write(&to, "old").unwrap();
    let checkpoint = quant_formats::open(&from).unwrap();
    let run = |recipe: &Recipe, options: Options<'_>, to: &std::path::Path| {
        quant_formats::quantize(&checkpoint, recipe, to, options).unwrap_err()
    };
    let all = Recipe::new().scheme("per-tensor-symmetric-int8".parse().unwrap());

    let error = run(&all, options(2, None), &to);
    assert!(matches!(error, CheckpointError::Quantize(QuantizeError::Param { .. })), "{error:?}");
    let error = run(&all.clone().rule(Rule::keep("nothing")), options(2, None), &to);
    assert!(matches!(error, CheckpointError::Quantize(QuantizeError::Rules(_))), "{error:?}");
    let error = run(&all, options(1, Some(24 << 20)), &to);
    let CheckpointError::Memory { needed, limit, .. } = error else { panic!("{error:?}") };
    assert_eq!(limit, 24 << 20);
    let error = run(&all, options(1, Some(needed)), &to);
    assert!(matches!(error, CheckpointError::Quantize(_)), "the memory is enough: {error:?}");
    let cancelled = AtomicBool::new(true);
    let mut stopped = options(1, None);
    stopped.cancelled = Some(&cancelled);
    assert!(matches!(run(&all, stopped, &to), CheckpointError::Cancelled));
    let error = run(&all, options(1, None), &directory.path().join("b.bin"));
    let CheckpointError::Record(RecordError::Recorder { source, .. }) = error else {
        panic!("{error}")
    };
    assert!(matches!(*source.downcast().unwrap(), FormatError::Extension { .. }));

    assert_eq!(std::fs::read(&to).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn rejects_files_of_no_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    for content in ["", "hello", "\u{89}QNT"] {
        std::fs::write(&path, content).unwrap();
        let Err(RecordError::Recorder { source, .. }) = quant_formats::open(&path) else {
            panic!("{content:?}")
        };
        assert!(matches!(*source.downcast().unwrap(), FormatError::Unknown));
    }
    let Err(error) = quant_formats::open(directory.path().join("none.quant")) else {
        panic!("none")
    };
    assert!(error.to_string().contains("none.quant"), "{error}");
}

#[test]
fn a_planner_that_quantizes_nothing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.quant"));
    model().save_file(&from, &BincodeRecorder::default()).unwrap();
    let float = Recipe::new();
    let open = || quant_formats::open(&from).unwrap();
    let error = quant_formats::quantize(&open(), &float, &to, Options::default()).unwrap_err();
    let checkpoint = open();
    let tensors = checkpoint.entries().len();
    let quantized = checkpoint.entries().iter().filter(|it| it.scheme().is_some()).count();
    let CheckpointError::NothingToQuantize { tensors: found, quantized: already } = error else {
        panic!("{error:?}")
    };
    assert_eq!((found, already), (tensors, quantized));
    assert!(!to.exists());

    let mut quantized = Record::new();
    let everything = of_everything();
    let (id, tensor) = everything.iter().find(|(_, tensor)| tensor.is_quantized()).unwrap();
    quantized.insert(id.clone(), tensor.clone());
    quantized.save_file(&from, &BincodeRecorder::default()).unwrap();
    let error = quant_formats::quantize(&open(), &recipe(), &to, Options::default());
    assert!(error.is_err(), "its rules match nothing");
    let all = Recipe::new().scheme("per-tensor-symmetric-int8".parse().unwrap());
    let error = quant_formats::quantize(&open(), &all, &to, Options::default()).unwrap_err();
    assert!(matches!(error, CheckpointError::NothingToQuantize { tensors: 1, quantized: 1 }));
}

#[test]
fn an_empty_directory_is_not_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let Err(RecordError::Recorder { source, .. }) = quant_formats::open(directory.path()) else {
        panic!("opened")
    };
    assert!(matches!(*source.downcast().unwrap(), FormatError::Directory { checkpoints: 0 }));
}

#[cfg(unix)]
#[test]
fn a_fifo_is_an_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no FIFO could be made");
        return;
    }
    let error = quant_formats::open(&path).unwrap_err();
    assert!(matches!(error, RecordError::Io { .. }), "{error:?}");
}

#[test]
fn half_precision_counts_the_bytes_that_it_takes() {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("half.safetensors");
    let (weight, bias) = (vec![0x3c; 2 * 8 * 64], vec![0x3c; 2 * 8]);
    let view = |shape: Vec<usize>, data| TensorView::new(Dtype::F16, shape, data).unwrap();
    let views = [("w", view(vec![8, 64], &weight)), ("b", view(vec![8], &bias))];
    std::fs::write(&path, serialize(views, None).unwrap()).unwrap();
    let from = quant_formats::open(&path).unwrap();
    let int8 = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    let plan = quant_formats::plan(&from, &int8, Options::default()).unwrap();
    assert_eq!(plan.bytes_before(), 2 * 8 * 64 + 2 * 8);
    // The bias stays in half precision.
    assert_eq!(plan.bytes_after(), (8 * 64 + 4 * 8) + 2 * 8);
    let int4: quant::quantize::mixed::Precision = "per-channel-symmetric-int4".parse().unwrap();
    let mixed = quant::quantize::mixed::MixedPrecision::new("29%".parse().unwrap(), [int4]);
    let choice = quant_formats::choose(&from, &mixed, Options::default());
    assert!(matches!(choice, Err(CheckpointError::Mixed(_))), "29% of half are less than 4 bits");
}
