//! Model directories: what engines load is written, by shards, and goes on after an interruption.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use quant::quantize::{Action, Reason};
use quant::{BincodeRecorder, Module, Recipe, Rule};
use quant_formats::{Checkpoint, CheckpointError, FolderError, Inputs, Options};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tests::files::names;
use tests::random::Random;

/// A language model of two layers in two shards of bf16, with the files beside it.
fn model(directory: &Path) -> PathBuf {
    let from = directory.join("model");
    fs::create_dir(&from).unwrap();
    let mut random = Random(3);
    let mut tensors: Vec<(String, Vec<usize>)> =
        vec![("model.embed_tokens.weight".into(), vec![12, 64])];
    for layer in 0..2 {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        tensors.push((name("self_attn.q_proj"), vec![16, 64]));
        tensors.push((name("mlp.down_proj"), vec![10, 32]));
        tensors.push((name("input_layernorm"), vec![64]));
    }
    tensors.push(("lm_head.weight".into(), vec![12, 64]));
    let mut weight_map = BTreeMap::new();
    for (number, part) in tensors.chunks(4).enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        let views: Vec<(String, Vec<usize>, Vec<u8>)> = part
            .iter()
            .map(|(name, shape)| {
                let count: usize = shape.iter().product();
                let bytes = (0..count).flat_map(|_| {
                    let bits = (random.unit() - 0.5).to_bits();
                    ((bits >> 16) as u16).to_le_bytes()
                });
                (name.clone(), shape.clone(), bytes.collect())
            })
            .collect();
        for (name, ..) in &views {
            weight_map.insert(name.clone(), file.clone());
        }
        fs::write(from.join(&file), bf16(&views)).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": weight_map});
    fs::write(from.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::write(from.join("config.json"), "{\n  \"rms_norm_eps\": 1e-06\n}\n").unwrap();
    fs::write(from.join("tokenizer.json"), "{}").unwrap();
    fs::write(from.join("pytorch_model.bin"), "old").unwrap();
    from
}

fn bf16(tensors: &[(String, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::BF16, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::tensor::serialize(views.collect::<Vec<_>>(), None).unwrap()
}

fn recipe(scheme: &str) -> Recipe {
    Recipe::new().scheme(scheme.parse().unwrap())
}

fn open(path: impl AsRef<Path>) -> Checkpoint {
    quant_formats::open(path).unwrap()
}

fn config(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    assert!(text.starts_with("{\n  \"rms_norm_eps\": 1e-06,\n"), "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["quantization_config"].take()
}

/// The values of a tensor that is read back, and those of the same tensor quantized in memory.
fn compare(from: &Checkpoint, to: &Checkpoint, name: &str, scheme: &str) {
    let original = from.read(from.position(name).unwrap()).unwrap();
    let quantized = quant::quantize::quantize_values(
        original.shape(),
        &original.values(),
        scheme.parse().unwrap(),
        &quant::MinMaxCalibration {},
    );
    let read = to.read(to.position(name).unwrap()).unwrap();
    assert_eq!(*read.values(), *quantized.unwrap().dequantize(), "{name} by {scheme}");
}

#[test]
fn every_scheme_comes_back_with_its_values() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(model(directory.path()));
    for (number, (scheme, inputs)) in [
        ("per-channel-symmetric-int8", Inputs::Float),
        ("per-channel-symmetric-int8", Inputs::Dynamic),
        ("per-channel-affine-int8", Inputs::Dynamic),
        ("per-tensor-symmetric-int8", Inputs::Dynamic),
        ("per-tensor-symmetric-int4", Inputs::Float),
        ("per-block-symmetric-int4:len=32", Inputs::Float),
        ("per-block-affine-int4:len=16:scale=f16", Inputs::Float),
        ("per-channel-affine-int3", Inputs::Float),
        ("per-block-affine-int5:len=16", Inputs::Float),
        ("per-block-full-range-int4:len=32:scale=bf16", Inputs::Float),
    ]
    .into_iter()
    .enumerate()
    {
        let to = directory.path().join(number.to_string());
        quant_formats::quantize_folder(&from, &recipe(scheme), inputs, &to, Options::default())
            .unwrap();
        let read = open(&to);
        assert_eq!(read.prequantized().unwrap().refused(), None, "{scheme}");
        for layer in 0..2 {
            for part in ["self_attn.q_proj", "mlp.down_proj"] {
                compare(&from, &read, &format!("model.layers.{layer}.{part}.weight"), scheme);
            }
        }
    }
}

#[test]
fn float_tensors_have_their_bytes_and_files_are_copied() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (model(directory.path()), directory.path().join("to"));
    let plan = quant_formats::quantize_folder(
        &open(&from),
        &recipe("per-channel-symmetric-int8"),
        Inputs::Dynamic,
        &to,
        Options::default(),
    )
    .unwrap();
    assert_eq!(names(&to), ["config.json", "model.safetensors", "tokenizer.json"]);
    let reasons: Vec<_> =
        plan.params().iter().map(|param| (param.id.as_str(), &param.reason)).collect();
    assert_eq!(reasons[0], ("model.embed_tokens.weight", &Reason::Format));
    assert_eq!(plan.params().len(), 8);
    let quantized = plan.params().iter().filter(|it| matches!(it.action, Action::Quantize { .. }));
    assert_eq!(quantized.count(), 4);

    let first = fs::read(from.join("model-00001-of-00002.safetensors")).unwrap();
    let (first, bytes) = (
        SafeTensors::deserialize(&first).unwrap(),
        fs::read(to.join("model.safetensors")).unwrap(),
    );
    let written = SafeTensors::deserialize(&bytes).unwrap();
    let embedding = written.tensor("model.embed_tokens.weight").unwrap();
    assert_eq!(embedding, first.tensor("model.embed_tokens.weight").unwrap());
    let codes = written.tensor("model.layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!((codes.dtype(), codes.shape()), (Dtype::I8, &[16, 64][..]));
    let scales = written.tensor("model.layers.0.self_attn.q_proj.weight_scale").unwrap();
    assert_eq!((scales.dtype(), scales.shape()), (Dtype::F32, &[16, 1][..]));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
}

#[test]
fn the_configuration_says_what_is_quantized_and_how() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (open(model(directory.path())), directory.path().join("to"));
    let mixed = recipe("per-channel-symmetric-int8").rule(Rule::quantize(
        "**.down_proj.weight",
        "per-block-symmetric-int4:len=32".parse().unwrap(),
    ));
    quant_formats::quantize_folder(&from, &mixed, Inputs::Float, &to, Options::default()).unwrap();
    let found = config(&to);
    assert_eq!(found["quant_method"], "compressed-tensors");
    assert_eq!(found["format"], "pack-quantized");
    let groups = found["config_groups"].as_object().unwrap();
    let of_bits = |bits: u64| {
        let is = |group: &&Value| group["weights"]["num_bits"] == bits;
        groups.values().find(is).unwrap()
    };
    assert_eq!(of_bits(4)["weights"]["strategy"], "group");
    assert_eq!(of_bits(4)["weights"]["group_size"], 32);
    assert_eq!(
        of_bits(4)["targets"],
        json!(["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"])
    );
    assert_eq!(of_bits(8)["weights"]["strategy"], "channel");
    assert_eq!(of_bits(8)["input_activations"], Value::Null);
    assert_eq!(found["ignore"], json!(["model.embed_tokens", "lm_head"]));

    let to = directory.path().join("int8");
    let one = recipe("per-channel-symmetric-int8");
    quant_formats::quantize_folder(&from, &one, Inputs::Dynamic, &to, Options::default()).unwrap();
    let found = config(&to);
    assert_eq!(found["format"], "int-quantized");
    assert_eq!(found["config_groups"]["group_0"]["targets"], json!(["Linear"]));
    assert_eq!(found["config_groups"]["group_0"]["input_activations"]["dynamic"], true);
}

/// Shards that hold a few tensors of the model each.
fn small_shards() -> Options<'static> {
    let mut options = Options::default();
    options.max_shard_size = Some(2_000);
    options
}

#[test]
fn shards_are_divided_by_size_and_listed() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (open(model(directory.path())), directory.path().join("to"));
    let options = small_shards();
    let int8 = recipe("per-channel-symmetric-int8");
    quant_formats::quantize_folder(&from, &int8, Inputs::Float, &to, options).unwrap();
    let index: Value =
        serde_json::from_slice(&fs::read(to.join("model.safetensors.index.json")).unwrap())
            .unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let files: Vec<_> =
        names(&to).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(files.len() >= 3, "{files:?}");
    let mut total = 0;
    for file in &files {
        let bytes = fs::read(to.join(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in tensors.tensors() {
            assert_eq!(map[&name], file.as_str());
            total += tensor.data().len();
        }
        assert!(tensors.tensors().iter().map(|(_, it)| it.data().len()).sum::<usize>() <= 2_000);
    }
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(open(&to).entries().len(), from.entries().len());
}

/// The content of a directory.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(directory.join(name)).unwrap());
    names(directory).into_iter().map(read).collect()
}

#[test]
fn an_interrupted_job_goes_on_and_gives_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (from, whole) = (open(model(directory.path())), directory.path().join("whole"));
    let options = small_shards();
    let int8 = recipe("per-channel-symmetric-int8");
    let expected_plan =
        quant_formats::quantize_folder(&from, &int8, Inputs::Float, &whole, options).unwrap();
    let expected = content(&whole);
    for stop_after in 1..8 {
        let to = directory.path().join(format!("stopped-{stop_after}"));
        let (cancelled, done) = (AtomicBool::new(false), std::sync::Mutex::new(0));
        let progress = |_: usize, _: u64| {
            let mut done = done.lock().unwrap();
            *done += 1;
            cancelled.store(*done >= stop_after, Ordering::Relaxed);
        };
        let mut stopped = options;
        stopped.progress = Some(&progress);
        stopped.cancelled = Some(&cancelled);
        stopped.jobs = std::num::NonZero::new(1);
        // One tensor at a time.
        stopped.max_memory = Some((24 << 20) + 12_000);
        let result = quant_formats::quantize_folder(&from, &int8, Inputs::Float, &to, stopped);
        assert!(matches!(result, Err(CheckpointError::Cancelled)), "{result:?}");
        assert!(!to.join("model.safetensors.index.json").exists(), "the index comes last");
        assert!(to.join(".quant-journal").exists());
        // What a process that was killed leaves behind.
        fs::write(to.join(".quant-7-1.tmp"), "half").unwrap();

        let other = recipe("per-tensor-symmetric-int8");
        let error =
            quant_formats::quantize_folder(&from, &other, Inputs::Float, &to, options).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Folder(FolderError::OtherJob { .. })),
            "{error:?}"
        );

        let plan =
            quant_formats::quantize_folder(&from, &int8, Inputs::Float, &to, options).unwrap();
        assert_eq!(plan, expected_plan);
        assert!(content(&to) == expected, "after {stop_after}");
    }
}

#[test]
fn a_finished_shard_that_was_damaged_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (open(model(directory.path())), directory.path().join("to"));
    let options = small_shards();
    let int8 = recipe("per-channel-symmetric-int8");
    quant_formats::quantize_folder(&from, &int8, Inputs::Float, &to, options).unwrap();
    let expected = content(&to);
    let stopped = directory.path().join("stopped");
    let cancelled = AtomicBool::new(false);
    let progress = |index: usize, _: u64| cancelled.store(index >= 5, Ordering::Relaxed);
    let mut once = options;
    once.progress = Some(&progress);
    once.cancelled = Some(&cancelled);
    (once.jobs, once.max_memory) = (std::num::NonZero::new(1), Some((24 << 20) + 12_000));
    quant_formats::quantize_folder(&from, &int8, Inputs::Float, &stopped, once).unwrap_err();
    let shard = names(&stopped).into_iter().find(|name| name.ends_with(".safetensors")).unwrap();
    let mut bytes = fs::read(stopped.join(&shard)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(stopped.join(shard), bytes).unwrap();
    quant_formats::quantize_folder(&from, &int8, Inputs::Float, &stopped, options).unwrap();
    assert!(content(&stopped) == expected);
}

#[test]
fn what_a_directory_cannot_hold_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (open(model(directory.path())), directory.path().join("to"));
    let refused = |recipe: &Recipe, inputs: Inputs| {
        let result = quant_formats::quantize_folder(&from, recipe, inputs, &to, Options::default());
        assert!(!to.exists());
        match result.unwrap_err() {
            CheckpointError::Folder(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (scheme, inputs, said) in [
        ("per-block-symmetric-int4:len=24", Inputs::Float, "no multiple of that of a block"),
        ("per-channel-symmetric-int8:axis=1", Inputs::Float, "those of the first axis"),
        ("per-tensor-affine-int8", Inputs::Float, "packed zero points"),
        ("per-channel-symmetric-int4", Inputs::Dynamic, "8 bits, and no blocks"),
        ("per-block-minimum-int4:len=32", Inputs::Float, "no minimums"),
        ("per-block-symmetric-int8:len=32", Inputs::Dynamic, "8 bits, and no blocks"),
    ] {
        let error = refused(&recipe(scheme), inputs);
        assert!(error.starts_with("model.layers.0.") && error.contains(said), "{error}");
    }
    let norm = recipe("per-channel-symmetric-int8").rule(Rule::quantize(
        "**.input_layernorm.weight",
        "per-tensor-symmetric-int8".parse().unwrap(),
    ));
    assert!(
        refused(&norm, Inputs::Float).contains("holds matrices whose names end with `.weight`")
    );

    fs::create_dir(&to).unwrap();
    fs::write(to.join("x"), "").unwrap();
    let int8 = recipe("per-channel-symmetric-int8");
    let error =
        quant_formats::quantize_folder(&from, &int8, Inputs::Float, &to, Options::default());
    assert!(matches!(error, Err(CheckpointError::Folder(FolderError::NotEmpty { .. }))));
    fs::write(directory.path().join("model/config.json"), "[]").unwrap();
    let to = directory.path().join("other");
    let error =
        quant_formats::quantize_folder(&from, &int8, Inputs::Float, &to, Options::default());
    assert!(matches!(error, Err(CheckpointError::Folder(FolderError::Config { .. }))), "{error:?}");
}

#[test]
fn a_state_of_a_module_has_no_place_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("a.quant"), directory.path().join("to"));
    tests::record::of_everything().save_file(&path, &BincodeRecorder::default()).unwrap();
    let error =
        quant_formats::dequantize_folder(&open(&path), &to, Options::default()).unwrap_err();
    assert!(matches!(error, CheckpointError::Folder(FolderError::State { .. })), "{error:?}");
}

#[test]
fn a_record_and_what_another_program_has_quantized_become_directories() {
    let directory = tempfile::tempdir().unwrap();
    let from = open(model(directory.path()));
    let record = directory.path().join("int8.quant");
    let int8 = recipe("per-channel-symmetric-int8")
        .rule(Rule::keep("{lm_head,model.embed_tokens}.weight"));
    quant_formats::quantize(&from, &int8, &record, Options::default()).unwrap();
    let to = directory.path().join("converted");
    quant_formats::convert_folder(&open(&record), Inputs::Float, &to, Options::default()).unwrap();
    compare(&from, &open(&to), "model.layers.1.mlp.down_proj.weight", "per-channel-symmetric-int8");

    let float = directory.path().join("float");
    quant_formats::dequantize_folder(&open(&to), &float, Options::default()).unwrap();
    let read = open(&float);
    assert!(read.prequantized().is_none());
    assert!(read.entries().iter().all(|entry| entry.scheme().is_none()));
    let text = fs::read_to_string(float.join("config.json")).unwrap();
    assert!(!text.contains("quantization_config"), "{text}");
}

#[test]
fn a_directory_is_opened_by_its_index_or_only_file() {
    let directory = tempfile::tempdir().unwrap();
    let error = quant_formats::open(directory.path()).unwrap_err();
    assert!(tests::record::chain(&error).contains("a directory without safetensors"), "{error}");
    let tensor = bf16(&[("w".into(), vec![1], vec![0, 0])]);
    fs::write(directory.path().join("a.safetensors"), &tensor).unwrap();
    assert_eq!(open(directory.path()).entries().len(), 1);
    fs::write(directory.path().join("b.safetensors"), &tensor).unwrap();
    let error = quant_formats::open(directory.path()).unwrap_err();
    assert!(tests::record::chain(&error).contains("a directory with 2 checkpoints"), "{error}");
    fs::write(directory.path().join("model.safetensors"), &tensor).unwrap();
    assert_eq!(open(directory.path()).entries()[0].id, "w");
}

#[test]
fn stacked_experts_stay_float_and_the_plan_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("model.safetensors");
    let bytes = |n: usize| vec![0x3C; 2 * n];
    let experts = "model.layers.0.mlp.experts.gate_up_proj";
    let linear = "model.layers.0.self_attn.q_proj.weight";
    let tensors = [
        (experts.to_owned(), vec![4, 8, 32], bytes(4 * 8 * 32)),
        (linear.to_owned(), vec![8, 32], bytes(8 * 32)),
    ];
    fs::write(&from, bf16(&tensors)).unwrap();
    let to = directory.path().join("to");
    let int8 = recipe("per-channel-symmetric-int8");
    let plan =
        quant_formats::quantize_folder(&open(&from), &int8, Inputs::Float, &to, Options::default())
            .unwrap();
    let reason = |name: &str| &plan.params().iter().find(|it| it.id == *name).unwrap().reason;
    assert_eq!(*reason(experts), Reason::StackedInFormat);
    assert!(matches!(reason(linear), Reason::Rank(2)));
    let read = open(&to);
    assert_eq!(
        read.read(read.position(experts).unwrap()).unwrap(),
        open(&from).read(open(&from).position(experts).unwrap()).unwrap()
    );
}

#[test]
fn an_output_layer_that_is_tied_to_the_embeddings_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = |value: u8, n: usize| vec![value; 2 * n];
    for (tied, same, is_left_out) in
        [(true, true, true), (true, false, false), (false, true, false)]
    {
        let from = directory.path().join(format!("from-{tied}-{same}"));
        let to = directory.path().join(format!("to-{tied}-{same}"));
        fs::create_dir(&from).unwrap();
        let tensors = [
            ("model.embed_tokens.weight", vec![64, 64], bytes(0x3C, 64 * 64)),
            ("lm_head.weight", vec![64, 64], bytes(if same { 0x3C } else { 0x3B }, 64 * 64)),
            ("model.layers.0.mlp.up_proj.weight", vec![8, 64], bytes(0x3C, 8 * 64)),
        ];
        let tensors = tensors.map(|(name, shape, bytes)| (name.to_owned(), shape, bytes));
        fs::write(from.join("model.safetensors"), bf16(&tensors)).unwrap();
        let config = format!("{{\n  \"tie_word_embeddings\": {tied}\n}}\n");
        fs::write(from.join("config.json"), config).unwrap();
        let int8 = recipe("per-channel-symmetric-int8");
        let plan = quant_formats::quantize_folder(
            &open(&from),
            &int8,
            Inputs::Float,
            &to,
            Options::default(),
        )
        .unwrap();
        let head = plan.params().iter().find(|it| it.id == "lm_head.weight").unwrap();
        let equal = Reason::EqualTo { id: "model.embed_tokens.weight".into() };
        assert_eq!(head.reason == equal, is_left_out);
        assert_eq!(head.bytes_after == 0, is_left_out);
        assert_eq!(open(&to).position("lm_head.weight").is_none(), is_left_out);
        assert!(open(&to).position("model.embed_tokens.weight").is_some());
    }
}
