//! Second moments in files: what is written is read, codes are those of moments in memory, and invalid files
//! are refused.

use std::fs;
use std::num::NonZero;
use std::path::Path;

use quant::moments::{LayerMoments, MomentSource, MomentsError, MomentsInfo, SecondMoments};
use quant::quantize::mixed::{MixedPrecision, Precision};
use quant::record::{Record, RecordState};
use quant::tensor::QuantizedTensor;
use quant::{BincodeRecorder, Module, ParamId, QuantizeError, Recipe, RecordError, Tensor};
use quant_formats::{
    Checkpoint, CheckpointError, GgufRecorder, Inputs, MomentsFile, MomentsFileError, Options,
    SafetensorsRecorder, write_moments,
};
use tests::mutate::mutate;
use tests::random::Random;

const OUTPUTS: usize = 48;
const INPUTS: usize = 96;

fn layer(seed: u64, columns: usize) -> LayerMoments {
    let mut random = Random(seed);
    let rows: Vec<f32> =
        (0..200 * columns).map(|at| random.normal() * (1 + at % columns % 5) as f32).collect();
    let mut moments = LayerMoments::for_inputs_up_to(40.0, columns).unwrap();
    moments.add(&rows).unwrap();
    moments
}

/// Two layers of which one has the diagonal alone.
fn moments() -> SecondMoments {
    let mut moments = SecondMoments::new();
    moments.insert("layers.0", layer(1, INPUTS));
    let other = layer(2, INPUTS);
    moments.insert("layers.1", LayerMoments::from_diagonal(other.diagonal(), 200).unwrap());
    moments
}

fn model() -> Record {
    let mut random = Random(3);
    let mut record = Record::new();
    for layer in 0..2 {
        let values = (0..OUTPUTS * INPUTS).map(|_| random.normal()).collect();
        let weight = Tensor::from_values(&[OUTPUTS, INPUTS], values).unwrap();
        record.insert(format!("layers.{layer}.weight"), weight);
    }
    record
}

/// The model in a file of this directory.
fn saved_model(directory: &Path) -> Checkpoint {
    let path = directory.join("model.quant");
    model().save_file(&path, &BincodeRecorder::default()).unwrap();
    quant_formats::open(path).unwrap()
}

/// `gptq` where there is a matrix, and `weighted-mse` where there is none.
fn recipe(moments: impl MomentSource + 'static) -> Recipe {
    let text = r#"
        [[rules]]
        path = "layers.0.weight"
        scheme = "per-block-full-range-int4:len=32"
        calibration = "gptq"

        [[rules]]
        path = "layers.1.weight"
        scheme = "per-channel-minimum-int4"
        calibration = "weighted-mse"
    "#;
    toml::from_str::<Recipe>(text).unwrap().moments(moments)
}

fn codes(path: &Path) -> Vec<QuantizedTensor> {
    let checkpoint = quant_formats::open(path).unwrap();
    let read = |index| checkpoint.read(index).unwrap().quantized().unwrap().clone();
    (0..2).map(read).collect()
}

fn file_error(error: RecordError) -> MomentsFileError {
    let RecordError::Recorder { source, .. } = error else { panic!("{error:?}") };
    *source.downcast().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moments.safetensors");
    write_moments(&moments(), &path).unwrap();
    let file = MomentsFile::open(&path).unwrap();
    assert_eq!(file.layers().map(ParamId::as_str).collect::<Vec<_>>(), ["layers.0", "layers.1"]);
    assert_eq!(file.read_all().unwrap(), moments());
    let id = ParamId::from("layers.0.weight");
    assert_eq!(file.layer_for(&id).unwrap(), "layers.0");
    assert_eq!(*file.load(&id).unwrap().unwrap(), layer(1, INPUTS));
    assert_eq!(file.describe(&id), Some(MomentsInfo { columns: INPUTS, has_matrix: true }));
    let other = ParamId::from("layers.1.weight");
    assert_eq!(file.describe(&other), moments().describe(&other));
    assert_eq!(file.describe(&"layers.2.weight".into()), None);
    assert!(file.load(&"layers.2.weight".into()).unwrap().is_none());
    // Another run of the same observation writes the same bytes.
    let again = directory.path().join("again.safetensors");
    write_moments(&file.read_all().unwrap(), &again).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
}

#[test]
fn files_quantize_to_the_codes_of_moments_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let checkpoint = saved_model(directory.path());
    write_moments(&moments(), at("moments.safetensors")).unwrap();
    let run = |recipe: &Recipe, to: &str, memory: Option<u64>| {
        let mut options = Options::default();
        (options.max_memory, options.jobs) = (memory, NonZero::new(2));
        quant_formats::quantize(&checkpoint, recipe, at(to), options).map(|_| codes(&at(to)))
    };
    let expected = run(&recipe(moments()), "memory.quant", None).unwrap();
    let file = recipe(MomentsFile::open(at("moments.safetensors")).unwrap());
    assert_eq!(run(&file, "file.quant", None).unwrap(), expected);
    // In as little memory as the job takes, which counts the matrix.
    let Err(CheckpointError::Memory { needed, id, .. }) =
        run(&file, "less.quant", Some((24 << 20) + 1000))
    else {
        panic!("the matrix and its factor were not counted");
    };
    assert_eq!(id.unwrap(), "layers.0.weight");
    assert!(needed > (24 << 20) + 8 * (INPUTS * (INPUTS + 1)) as u64);
    assert_eq!(run(&file, "pieces.quant", Some(needed)).unwrap(), expected);
}

#[test]
fn choosing_within_a_budget_weighs_by_the_moments_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let checkpoint = saved_model(directory.path());
    write_moments(&moments(), at("moments.safetensors")).unwrap();
    let precisions = ["int8", "per-channel-symmetric-int4 by weighted-mse"];
    let mixed = |recipe: Recipe| {
        let precisions: Vec<Precision> =
            precisions.iter().map(|name| name.parse().unwrap()).collect();
        MixedPrecision::new("20%".parse().unwrap(), precisions).recipe(recipe)
    };
    let choose = |recipe| {
        quant_formats::choose(&checkpoint, &mixed(recipe), Options::default())
            .map(|choice| quant_formats::plan(&checkpoint, &choice, Options::default()).unwrap())
    };
    let file = MomentsFile::open(at("moments.safetensors")).unwrap();
    let expected = choose(Recipe::new().moments(moments())).unwrap();
    assert_eq!(choose(Recipe::new().moments(file)).unwrap(), expected);
}

#[test]
fn a_model_directory_is_quantized_by_moments() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    model().save_file(at("model.safetensors"), &SafetensorsRecorder::default()).unwrap();
    let checkpoint = quant_formats::open(at("model.safetensors")).unwrap();
    let run = |calibration: &str, to: &str| {
        let recipe = Recipe::new()
            .scheme("per-block-symmetric-int4:len=32".parse().unwrap())
            .calibration(calibration.parse().unwrap())
            .moments(moments());
        let to = at(to);
        quant_formats::quantize_folder(
            &checkpoint,
            &recipe,
            Inputs::Float,
            &to,
            Options::default(),
        )
        .unwrap();
        fs::read(to.join("model.safetensors")).unwrap()
    };
    assert_ne!(run("weighted-mse", "weighted"), run("least-squares", "plain"));
}

/// An importance matrix as llama.cpp writes it: of two weights, and of one of experts.
fn imatrix() -> Record {
    let mut record = Record::new();
    record.insert_metadata("general.type", "imatrix");
    let mut insert = |name: &str, shape: &[usize], values: Vec<f32>| {
        record.insert(name.to_owned(), Tensor::from_values(shape, values).unwrap());
    };
    for index in 0..2 {
        let squares = layer(index, INPUTS).diagonal().iter().map(|&sum| sum as f32).collect();
        insert(&format!("layers.{index}.weight.in_sum2"), &[INPUTS], squares);
        insert(&format!("layers.{index}.weight.counts"), &[1], vec![200.0]);
    }
    insert("experts.weight.in_sum2", &[3, 4], vec![1.0; 12]);
    insert("experts.weight.counts", &[3, 1], vec![5.0; 3]);
    record
}

#[test]
fn importance_matrices_of_llama_cpp_are_diagonals() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imatrix.gguf");
    imatrix().save_file(&path, &GgufRecorder::default()).unwrap();
    let file = MomentsFile::open(&path).unwrap();
    let read = file.load(&"layers.1.weight".into()).unwrap().unwrap();
    let expected: Vec<f64> =
        layer(1, INPUTS).diagonal().iter().map(|&sum| f64::from(sum as f32)).collect();
    assert_eq!((read.diagonal(), read.rows(), read.matrix()), (expected, 200, None));
    assert_eq!(file.experts(), ["experts.weight"]);
    assert_eq!(file.describe(&"experts.weight".into()), None);

    let at = |name: &str| directory.path().join(name);
    let checkpoint = saved_model(directory.path());
    let recipe = |calibration: &str| {
        Recipe::new()
            .scheme("per-channel-symmetric-int4".parse().unwrap())
            .calibration(calibration.parse().unwrap())
            .moments(MomentsFile::open(&path).unwrap())
    };
    let run = |calibration: &str| {
        let recipe = recipe(calibration);
        quant_formats::quantize(&checkpoint, &recipe, at("int4.quant"), Options::default())
    };
    run("weighted-mse").unwrap();
    let CheckpointError::Quantize(QuantizeError::Param { source, .. }) = run("gptq").unwrap_err()
    else {
        panic!("an importance matrix is a diagonal");
    };
    assert!(source.to_string().contains("only its diagonal is known"), "{source}");
}

#[test]
fn files_of_other_things_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let error = |name: &str, record: &Record| {
        let path = directory.path().join(name);
        match name.ends_with(".gguf") {
            true => record.save_file(&path, &GgufRecorder::default()).unwrap(),
            false => record.save_file(&path, &SafetensorsRecorder::default()).unwrap(),
        }
        file_error(MomentsFile::open(&path).unwrap_err())
    };
    assert!(matches!(error("model.safetensors", &model()), MomentsFileError::Other));

    let ours = |metadata: &[(&str, &str)], kind: &str, len: usize| {
        let mut record = Record::new();
        for (key, value) in metadata {
            record.insert_metadata(*key, *value);
        }
        let (id, kind) = ("fc".into(), kind.into());
        record.insert_state(RecordState { id, kind, data: vec![0; len] });
        error("m.safetensors", &record)
    };
    let (version, fc) = (("second-moments", "1"), "second-moments.fc");
    let kind = "tensor/I64 [3]";
    let found = ours(&[("second-moments", "2")], kind, 24);
    assert!(matches!(found, MomentsFileError::Version { version } if version == "2"));
    let found = ours(&[version], kind, 24);
    assert!(matches!(found, MomentsFileError::Description { description: None, .. }));
    let found = ours(&[version, (fc, "rows=x")], kind, 24);
    assert!(matches!(found, MomentsFileError::Description { description: Some(_), .. }));
    for (description, kind, len) in [
        ("rows=1 exponent=-3", "tensor/I64 [2]", 16),
        ("rows=1 exponent=-3", "tensor/F64 [3]", 24),
        ("rows=1", "tensor/I64 [3]", 24),
        ("rows=1", "tensor/F64 [3, 1]", 24),
    ] {
        let found = ours(&[version, (fc, description)], kind, len);
        assert!(matches!(found, MomentsFileError::Layout { .. }), "{description} {kind}");
    }

    let without = |name: &str| {
        let mut record = Record::new();
        let others = imatrix().into_iter().filter(|(id, _)| id != name);
        others.for_each(|(id, tensor)| drop(record.insert(id, tensor)));
        error("i.gguf", &record)
    };
    for name in ["layers.0.weight.counts", "layers.0.weight.in_sum2"] {
        let found = without(name);
        assert!(matches!(found, MomentsFileError::MissingTensor { tensor, .. } if tensor == name));
    }
    let mut record = imatrix();
    record.insert("layers.0.weight.counts", Tensor::from_values(&[2], vec![1.0; 2]).unwrap());
    assert!(matches!(error("i.gguf", &record), MomentsFileError::Layout { .. }));

    let path = directory.path().join("none.safetensors");
    let empty = write_moments(&SecondMoments::new(), &path).unwrap_err();
    assert!(matches!(file_error(empty), MomentsFileError::Empty) && !path.exists());
}

#[test]
fn invalid_sums_are_an_error_with_the_path_of_the_weight() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imatrix.gguf");
    for (name, value) in [("in_sum2", -1.0), ("in_sum2", f32::NAN), ("counts", f32::INFINITY)] {
        let mut record = imatrix();
        let name = format!("layers.0.weight.{name}");
        let shape = record.get(&name).unwrap().shape().to_vec();
        let count = shape.iter().product();
        record.insert(name, Tensor::from_values(&shape, vec![value; count]).unwrap());
        record.save_file(&path, &GgufRecorder::default()).unwrap();
        let file = MomentsFile::open(&path).unwrap();
        let error = file_error(file.read_all().unwrap_err());
        assert!(matches!(error, MomentsFileError::Moments { id, .. } if id == "layers.0.weight"));

        let recipe = Recipe::new()
            .scheme("int8".parse().unwrap())
            .calibration("weighted-mse".parse().unwrap())
            .moments(file);
        let checkpoint = saved_model(directory.path());
        let error = quant_formats::plan(&checkpoint, &recipe, Options::default()).unwrap_err();
        let CheckpointError::Quantize(QuantizeError::Param { id, source, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(id, "layers.0.weight");
        assert!(source.to_string().contains("second moments cannot be read: "), "{source}");
    }
}

#[test]
fn a_source_that_changes_is_an_error() {
    #[derive(Debug)]
    struct Other;
    impl MomentSource for Other {
        fn describe(&self, _: &ParamId) -> Option<MomentsInfo> {
            Some(MomentsInfo { columns: INPUTS, has_matrix: true })
        }

        fn load(&self, _: &ParamId) -> Result<Option<std::sync::Arc<LayerMoments>>, MomentsError> {
            Ok(Some(layer(1, INPUTS - 1).into()))
        }
    }
    let recipe = Recipe::new()
        .scheme("int8".parse().unwrap())
        .calibration("weighted-mse".parse().unwrap())
        .moments(Other);
    let weight = quant::Param::new([[1.0f32; INPUTS]; 1]);
    let QuantizeError::Param { source, .. } = recipe.plan(&vec![weight]).unwrap_err() else {
        panic!("the columns were not checked");
    };
    assert!(source.to_string().contains("have changed"), "{source}");
}

#[test]
fn mutated_files_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random(11);
    let mut small = SecondMoments::new();
    small.insert("a", layer(1, 3));
    let diagonal = layer(2, 2).diagonal();
    small.insert("b", LayerMoments::from_diagonal(diagonal, 9).unwrap());
    write_moments(&small, directory.path().join("m.safetensors")).unwrap();
    let mut record = Record::new();
    record.insert("w.in_sum2", Tensor::from_values(&[1, 2], vec![1.0, 2.0]).unwrap());
    record.insert("w.counts", Tensor::from_values(&[1, 1], vec![3.0]).unwrap());
    record.save_file(directory.path().join("i.gguf"), &GgufRecorder::default()).unwrap();
    for name in ["m.safetensors", "i.gguf"] {
        let original = fs::read(directory.path().join(name)).unwrap();
        let path = directory.path().join(format!("mutated-{name}"));
        let mut opened = 0;
        for _ in 0..50_000 {
            let mut bytes = original.clone();
            let end = bytes.len();
            mutate(&mut bytes, end, b"0123456789[],\"=-_IF", &mut random);
            fs::write(&path, &bytes).unwrap();
            let Ok(file) = MomentsFile::open(&path) else { continue };
            opened += 1;
            if let Ok(all) = file.read_all() {
                assert_eq!(all.iter().count(), file.layers().count());
            }
        }
        assert!(opened > 1000, "{name}: {opened}");
    }
}
