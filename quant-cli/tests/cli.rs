//! The command line, run as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use quant::moments::{LayerMoments, SecondMoments};
use quant::record::Record;
use quant::record::RecordState;
use quant::{BincodeRecorder, Module, Tensor};
use quant_formats::{JsonRecorder, SafetensorsRecorder};
use serde_json::Value;

/// A directory with a checkpoint in it, removed when dropped.
struct Workspace {
    directory: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Self {
        let workspace = Self { directory: tempfile::tempdir().unwrap() };
        model()
            .save_file(workspace.at("model.safetensors"), &SafetensorsRecorder::default())
            .unwrap();
        workspace
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// What is printed by a command that has to succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {stderr}");
        assert_eq!(stderr, "", "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Exit code and message of a command that has to fail.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn files(&self) -> usize {
        fs::read_dir(self.directory.path()).unwrap().count()
    }
}

fn model() -> Record {
    let wave = |n: usize, by: f32| (0..n).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
    let mut record = Record::new();
    record.insert_metadata("format", "pt");
    for layer in 0..3 {
        let by = 0.1 + layer as f32;
        let weight = Tensor::from_values(&[16, 64], wave(16 * 64, by)).unwrap();
        record.insert(format!("encoder.layer.{layer}.dense.weight"), weight);
        let bias = Tensor::from_values(&[16], wave(16, by)).unwrap();
        record.insert(format!("encoder.layer.{layer}.dense.bias"), bias);
    }
    record
}

/// Of the inputs of the layers of the model, and of the head that one test adds.
fn moments() -> SecondMoments {
    let mut moments = SecondMoments::new();
    for (layer, columns) in
        [("layer.0.dense", 64), ("layer.1.dense", 64), ("layer.2.dense", 64), ("head", 1)]
    {
        let mut inputs = LayerMoments::for_inputs_up_to(1.0, columns).unwrap();
        let rows: Vec<f32> = (0..20 * columns).map(|i| (i as f32 * 0.37).cos()).collect();
        inputs.add(&rows).unwrap();
        moments.insert(format!("encoder.{layer}"), inputs);
    }
    moments
}

#[test]
fn inspect_shows_a_tree_with_shapes_types_ranges_and_sizes() {
    let workspace = Workspace::new();
    let shown = workspace.ok(&["inspect", "model.safetensors"]);
    assert!(
        shown.starts_with("model.safetensors: safetensors, 6 tensors, 3120 parameters, 12.5 kB\n")
    );
    assert!(shown.contains("format = pt"), "{shown}");
    assert!(shown.contains("encoder.layer"), "{shown}");
    assert!(shown.contains("16×64") && shown.contains("-1.000 … 1.000"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours outside of a terminal");
    let json = workspace.json(&["inspect", "--json", "model.safetensors"]);
    assert_eq!(json["tensors"][0]["name"], "encoder.layer.0.dense.weight");
    assert_eq!(json["tensors"][0]["shape"], serde_json::json!([16, 64]));
    assert_eq!(json["tensors"][0]["type"], "f32");
    assert_eq!(json["parameters"], 3120);
    let top = workspace.ok(&["inspect", "--quick", "--depth", "1", "model.safetensors"]);
    assert!(top.contains("values and checksums were not read") && !top.contains("16×64"), "{top}");
}

#[test]
fn quantize_writes_a_record_that_verify_diff_and_dequantize_understand() {
    let workspace = Workspace::new();
    let said = workspace.ok(&["quantize", "model.safetensors", "-o", "int8.quant"]);
    assert!(
        said.starts_with("3 of 6 tensors quantized: 12.5 kB become 3.46 kB (27.7 %)"),
        "{said}"
    );
    assert_eq!(
        workspace.ok(&["verify", "int8.quant"]),
        "int8.quant: 6 tensors, all checksums match\n"
    );

    let output = workspace.run(&["diff", "model.safetensors", "int8.quant"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("f32 → per-channel-symmetric-int8"), "{shown}");
    assert!(shown.contains("3 of 6 tensors differ") && shown.contains(" dB "), "{shown}");
    workspace.ok(&["diff", "model.safetensors", "int8.quant", "--min-sqnr", "40"]);
    workspace.ok(&["diff", "int8.quant", "int8.quant"]);

    workspace.ok(&["dequantize", "int8.quant", "-o", "back.safetensors"]);
    let json = workspace.json(&["inspect", "--json", "back.safetensors"]);
    assert!(json["tensors"].as_array().unwrap().iter().all(|tensor| tensor["type"] == "f32"));
}

#[test]
fn conversion_through_every_format_changes_nothing() {
    let workspace = Workspace::new();
    workspace.ok(&[
        "quantize",
        "model.safetensors",
        "-o",
        "a.quant",
        "--scheme",
        "per-block-affine-int4",
    ]);
    workspace.ok(&["convert", "a.quant", "-o", "b.safetensors"]);
    workspace.ok(&["convert", "b.safetensors", "-o", "c.json"]);
    workspace.ok(&["convert", "c.json", "-o", "d.quant"]);
    assert_eq!(
        fs::read(workspace.at("a.quant")).unwrap(),
        fs::read(workspace.at("d.quant")).unwrap()
    );
    workspace.ok(&["convert", "a.quant", "-o", "shards.quant", "--max-shard-size", "1KiB"]);
    workspace.ok(&["diff", "a.quant", "shards.quant"]);
    let (code, said) =
        workspace.fails(&["convert", "a.quant", "-o", "e.json", "--max-shard-size", "1KiB"]);
    assert_eq!(code, 3, "{said}");
}

#[test]
fn a_gguf_file_has_blocks_that_travel_and_are_not_quantized_again() {
    let workspace = Workspace::new();
    let quantize = ["quantize", "model.safetensors", "-o", "q8.gguf", "--scheme", "q8_0"];
    let said = workspace.ok(&quantize);
    assert!(
        said.starts_with("3 of 6 tensors to Q8_0: 12.5 kB become 3.46 kB (27.7 %)\n"),
        "{said}"
    );
    let shown = workspace.ok(&["inspect", "q8.gguf"]);
    assert!(shown.starts_with("q8.gguf: GGUF, 6 tensors, 3120 parameters, 3.46 kB\n"), "{shown}");
    assert!(shown.contains("Q8_0") && shown.contains("format = pt"), "{shown}");

    workspace.ok(&["convert", "q8.gguf", "-o", "q8.quant"]);
    workspace.ok(&["diff", "q8.gguf", "q8.quant"]);
    workspace.ok(&["convert", "q8.quant", "-o", "again.gguf"]);
    let read = |name: &str| fs::read(workspace.at(name)).unwrap();
    assert!(read("again.gguf") == read("q8.gguf"));
    workspace.ok(&["verify", "q8.gguf"]);

    let (code, said) = workspace.fails(&["quantize", "q8.gguf", "-o", "int8.quant"]);
    assert_eq!(code, 2);
    assert!(
        said.contains("0 of 6 tensors would be quantized; 3 are quantized already\n"),
        "{said}"
    );
    let said = workspace.ok(&["quantize", "q8.gguf", "-o", "int8.quant", "--requantize"]);
    assert!(said.starts_with("3 of 6 tensors quantized"), "{said}");
    let said = workspace.ok(&["plan", "q8.gguf"]);
    assert!(said.contains("stays per-block-full-range-int8:scale=f16"), "{said}");

    let json = workspace.json(&[&quantize[..], &["--json"]].concat());
    assert_eq!(json["quantized"], 3);
    for (arguments, message) in [
        (&["quantize", "model.safetensors", "-o", "a.gguf"][..], "GGUF has no type for"),
        (
            &[&quantize[..], &["--calibration", "mse"]].concat(),
            "--calibration: the scales of blocks of GGUF are not calibrated",
        ),
    ] {
        let (code, said) = workspace.fails(arguments);
        assert!(code >= 2 && said.contains(message), "{said}");
    }
}

#[test]
fn plan_says_what_quantize_does() {
    let workspace = Workspace::new();
    let shown = workspace.ok(&["plan", "model.safetensors", "--keep", "encoder.layer.0.**"]);
    assert!(shown.contains("--keep 'encoder.layer.0.**'") && shown.contains("rank 1"), "{shown}");
    let plan = workspace.json(&["plan", "--json", "model.safetensors"]);
    let done = workspace.json(&["quantize", "--json", "model.safetensors", "-o", "a.quant"]);
    assert_eq!(done["plan"]["params"], plan["params"]);
    assert_eq!(done["output_bytes"], fs::metadata(workspace.at("a.quant")).unwrap().len());
}

#[test]
fn a_budget_is_kept_and_its_choice_can_be_used_again() {
    let workspace = Workspace::new();
    let args =
        ["plan", "model.safetensors", "--budget", "30%", "--write-recipe", "r.toml", "--json"];
    let plan = workspace.json(&args);
    let total = |plan: &Value, key: &str| -> u64 {
        plan["params"].as_array().unwrap().iter().map(|param| param[key].as_u64().unwrap()).sum()
    };
    assert!(total(&plan, "bytes_after") * 10 <= total(&plan, "bytes_before") * 3);
    let again = workspace.json(&["plan", "model.safetensors", "--recipe", "r.toml", "--json"]);
    assert_eq!(total(&again, "bytes_after"), total(&plan, "bytes_after"));
    let (code, said) = workspace.fails(&["plan", "model.safetensors", "--budget", "1%"]);
    assert_eq!(code, 2);
    assert!(said.starts_with("error: model.safetensors: "), "{said}");
}

#[test]
fn names_are_replaced_on_the_way_in() {
    let workspace = Workspace::new();
    let rename = ["--rename", r"encoder\.layer\.(\d+)", "layers.$1", "--omit", "**.bias"];
    let args = [&["convert", "model.safetensors", "-o", "a.quant"][..], &rename].concat();
    workspace.ok(&args);
    let json = workspace.json(&["inspect", "--json", "a.quant"]);
    let names: Vec<_> = json["tensors"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["layers.0.dense.weight", "layers.1.dense.weight", "layers.2.dense.weight"]);
    let (code, said) =
        workspace.fails(&["inspect", "model.safetensors", "--rename", "nothing", "x"]);
    assert_eq!(code, 2);
    assert!(said.contains("--rename 'nothing' matches no name"), "{said}");
}

#[test]
fn a_report_is_one_page_about_every_tensor() {
    let workspace = Workspace::new();
    workspace.ok(&["quantize", "model.safetensors", "-o", "a.quant"]);
    for args in [&[][..], &["--against", "a.quant"], &["--scheme", "per-tensor-affine-int4"]] {
        let said = workspace.ok(&[&["report", "model.safetensors"], args].concat());
        assert!(said.starts_with("report.html: 6 tensors, "), "{said}");
        let page = fs::read_to_string(workspace.at("report.html")).unwrap().replace("<wbr>", "");
        assert!(page.contains("encoder.layer.2.dense.weight") && page.contains("<svg"));
    }
    assert_eq!(workspace.files(), 3);
}

#[test]
fn damage_is_found_and_named() {
    let workspace = Workspace::new();
    workspace.ok(&["quantize", "model.safetensors", "-o", "a.quant"]);
    let mut bytes = fs::read(workspace.at("a.quant")).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(workspace.at("a.quant"), &bytes).unwrap();
    let output = workspace.run(&["verify", "a.quant"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("DAMAGED") && said.contains("encoder.layer.2.dense."), "{said}");
    let (code, said) = workspace.fails(&["dequantize", "a.quant", "-o", "b.quant"]);
    assert_eq!(code, 3);
    assert!(said.starts_with("error: a.quant: encoder.layer.2.dense."), "{said}");
    assert!(said.contains("`quant verify` lists all damage"), "{said}");
    assert_eq!(workspace.files(), 2, "nothing is left behind");
}

#[test]
fn failures_have_an_exit_code_and_a_message_and_keep_the_output() {
    let workspace = Workspace::new();
    fs::write(workspace.at("old.quant"), "old").unwrap();
    fs::write(workspace.at("bad.toml"), "[[rules]]\npath = \"nothing.*\"\nkeep = true\n").unwrap();
    fs::write(workspace.at("worse.toml"), "schema = 8").unwrap();
    fs::write(workspace.at("text.quant"), "hello").unwrap();
    let to_old = ["model.safetensors", "-o", "old.quant"];
    for (args, code, said) in [
        (vec!["quantize", "none.safetensors", "-o", "a.quant"], 3, "none.safetensors: "),
        (vec!["quantize", "text.quant", "-o", "a.quant"], 3, "text.quant: neither a record"),
        (vec!["quantize", "model.safetensors", "-o", "a.bin"], 2, "a.bin: unknown extension"),
        (vec!["quantize", "model.safetensors", "-o", "model.safetensors"], 2, "is an input"),
        (vec!["quantize", "model.safetensors", "-o", "no/a.quant"], 3, "no/a.quant: "),
        ([&["quantize"], &to_old[..], &["--recipe", "bad.toml"]].concat(), 2, "`nothing.*`"),
        ([&["quantize"], &to_old[..], &["--recipe", "worse.toml"]].concat(), 2, "worse.toml: "),
        ([&["quantize"], &to_old[..], &["--scheme", "int9"]].concat(), 2, "invalid value 'int9'"),
        ([&["quantize"], &to_old[..], &["--max-memory", "24MiB"]].concat(), 2, "--max-memory"),
        (vec!["quantize", "model.safetensors"], 2, "--output"),
        (vec!["verify", "none.quant"], 3, "none.quant: "),
        (vec![], 2, "Usage"),
    ] {
        let (found, text) = workspace.fails(&args);
        assert_eq!(found, code, "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert_eq!(fs::read(workspace.at("old.quant")).unwrap(), b"old");
    assert_eq!(workspace.files(), 5, "nothing is left behind");
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let workspace = Workspace::new();
    let mut record = Record::new();
    let matrix = Tensor::from_values(&[1, 2], vec![1.0, 0.5]).unwrap();
    record.insert("\u{1b}[2J\u{202e}evil\n\u{200b}", matrix);
    record.insert_metadata("k\u{7}", "\u{1b}]0;title\u{7}");
    record.save_file(workspace.at("evil.quant"), &BincodeRecorder::default()).unwrap();
    let bad = ['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}'];
    for args in [
        &["inspect", "evil.quant"][..],
        &["plan", "evil.quant"],
        &["quantize", "evil.quant", "-o", "a.quant"],
        &["diff", "evil.quant", "a.quant", "--all"],
        &[
            "quantize",
            "evil.quant",
            "-o",
            "b.quant",
            "--scheme",
            "per-channel-symmetric-int8:axis=7",
        ],
        &["quantize", "evil.quant", "-o", "b.quant", "--keep", "other"],
    ] {
        let output = workspace.run(args);
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            assert!(!text.contains(bad), "{args:?}: {text:?}");
        }
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let workspace = Workspace::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(["inspect", "model.safetensors"])
        .current_dir(workspace.directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// Waits for a condition that another process brings about.
#[cfg(unix)]
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "the process did not get there within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

#[cfg(unix)]
#[test]
fn an_interrupted_quantize_leaves_no_file() {
    let workspace = Workspace::new();
    // Large enough that the signal comes before the end.
    let mut record = Record::new();
    for layer in 0..64 {
        let tensor = Tensor::from_values(&[512, 1024], vec![0.5; 512 * 1024]).unwrap();
        record.insert(format!("layer.{layer}"), tensor);
    }
    record.save_file(workspace.at("large.quant"), &BincodeRecorder::default()).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(["quantize", "large.quant", "-o", "out.quant", "--calibration", "mse", "--jobs", "1"])
        .current_dir(workspace.directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The temporary file shows that the work has begun.
    wait_until(|| workspace.files() == 3);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; nothing was written"), "{said}");
    assert_eq!(workspace.files(), 2);
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let workspace = Workspace::new();
    assert!(workspace.ok(&["completions", "bash"]).contains("quantize"));
    assert!(workspace.ok(&["man"]).contains(".TH quant"));
    fs::create_dir(workspace.at("man")).unwrap();
    workspace.ok(&["man", "man"]);
    assert!(Path::new(&workspace.at("man")).join("quant-quantize.1").exists());
}

#[cfg(unix)]
#[test]
fn the_first_interrupt_ends_commands_that_only_read() {
    let workspace = Workspace::new();
    let mut record = Record::new();
    let tensor = Tensor::from_values(&[2048, 2048], vec![0.5; 2048 * 2048]).unwrap();
    for layer in 0..16 {
        record.insert(format!("layer.{layer}"), tensor.clone());
    }
    record.save_file(workspace.at("large.quant"), &BincodeRecorder::default()).unwrap();
    for args in [
        &["inspect", "large.quant"][..],
        &["diff", "large.quant", "large.quant"],
        &["verify", "large.quant", "large.quant", "large.quant", "large.quant"],
        &["report", "large.quant", "--calibration", "mse", "--jobs", "1"],
        &["plan", "large.quant", "--calibration", "mse", "--jobs", "1"],
    ] {
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_quant"))
            .args(args)
            .current_dir(workspace.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{args:?} {:?}: {said}", started.elapsed());
        assert!(!workspace.at("report.html").exists());
    }
}

#[test]
fn an_output_that_is_an_input_is_refused() {
    let workspace = Workspace::new();
    workspace.ok(&["quantize", "model.safetensors", "-o", "a.quant"]);
    workspace.ok(&["convert", "a.quant", "-o", "b.quant", "--max-shard-size", "1kB"]);
    let text = "scheme = \"per-channel-symmetric-int8\"\n";
    fs::write(workspace.at("r.toml"), text).unwrap();
    fs::write(workspace.at("config.json"), "{}").unwrap();
    fs::hard_link(workspace.at("a.quant"), workspace.at("hard.quant")).unwrap();
    let shard = fs::read_dir(workspace.directory.path()).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with("b.quant-").then_some(name)
    });
    let shard = shard.expect("a shard beside its index");
    for args in [
        &["report", "a.quant", "-o", "a.quant"][..],
        &["report", "a.quant", "-o", "hard.quant"],
        &["report", "model.safetensors", "--against", "a.quant", "-o", "hard.quant"],
        &["report", "b.quant", "-o", &shard],
        &["report", "model.safetensors", "--recipe", "r.toml", "-o", "r.toml"],
        &["plan", "a.quant", "--write-recipe", "hard.quant"],
        &["plan", "model.safetensors", "--recipe", "r.toml", "--write-recipe", "r.toml"],
        &["convert", "a.quant", "-o", "hard.quant"],
        // It says how the tensors beside it are quantized.
        &["report", "model.safetensors", "-o", "config.json"],
        &["plan", "model.safetensors", "--write-recipe", "config.json"],
    ] {
        let (code, said) = workspace.fails(args);
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains("is an input"), "{args:?}: {said}");
    }
    workspace.ok(&["verify", "a.quant", "b.quant"]);
    assert_eq!(fs::read_to_string(workspace.at("r.toml")).unwrap(), text);
}

#[test]
fn a_shard_of_a_safetensors_input_is_not_overwritten() {
    let workspace = Workspace::new();
    let index = r#"{"weight_map": {WEIGHTS}}"#;
    let names: Vec<_> =
        model().iter().map(|(id, _)| format!("\"{id}\": \"model.safetensors\"")).collect();
    let index = index.replace("WEIGHTS", &names.join(", "));
    fs::write(workspace.at("model.safetensors.index.json"), index).unwrap();
    let before = fs::read(workspace.at("model.safetensors")).unwrap();
    let args = ["quantize", "model.safetensors.index.json", "-o", "model.safetensors"];
    let (code, said) = workspace.fails(&args);
    assert_eq!(code, 2, "{said}");
    assert_eq!(fs::read(workspace.at("model.safetensors")).unwrap(), before);
}

#[test]
fn quantizing_nothing_is_an_error() {
    let workspace = Workspace::new();
    workspace.ok(&["quantize", "model.safetensors", "-o", "a.quant", "--omit", "**.bias"]);
    let (code, said) = workspace.fails(&["quantize", "a.quant", "-o", "b.quant"]);
    assert_eq!(code, 2);
    assert!(said.contains("all 3 tensors are quantized already"), "{said}");
    let args = ["quantize", "model.safetensors", "-o", "b.quant", "--keep", "**"];
    let (code, said) = workspace.fails(&args);
    assert_eq!(code, 2);
    assert!(said.contains("0 of 6 tensors would be quantized"), "{said}");
    assert!(!workspace.at("b.quant").exists());
}

#[test]
fn tensors_of_other_types_are_listed() {
    let workspace = Workspace::new();
    let mut record = model();
    let (id, kind, data) = ("wide".into(), "tensor/F64 [2, 2]".into(), vec![0; 32]);
    record.insert_state(RecordState { id, kind, data });
    record.save_file(workspace.at("a.quant"), &BincodeRecorder::default()).unwrap();
    let line = "1 tensor is copied unchanged: wide (F64 [2, 2])";
    assert!(workspace.ok(&["plan", "a.quant"]).contains(line));
    assert!(workspace.ok(&["quantize", "a.quant", "-o", "b.quant"]).contains(line));
    let plan = workspace.json(&["plan", "a.quant", "--json"]);
    assert_eq!(plan["unchanged"][0]["name"], "wide");
}

#[test]
fn activations_of_a_recipe_are_not_ignored_silently() {
    let workspace = Workspace::new();
    let recipe = "scheme = \"per-channel-symmetric-int8\"\n\
                  activations = \"dynamic-per-row-affine\"\n";
    fs::write(workspace.at("r.toml"), recipe).unwrap();
    let args = ["quantize", "model.safetensors", "-o", "a.quant", "--recipe", "r.toml"];
    let output = workspace.run(&args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.starts_with("note: "), "{said}");
    assert!(said.contains("activations of the recipe are ignored"), "{said}");
    let json = workspace.json(&[&args[..], &["--json"]].concat());
    assert!(json["notes"][0].as_str().unwrap().contains("activations"));
}

#[test]
fn states_and_metadata_are_differences() {
    let workspace = Workspace::new();
    let save = |name: &str, edit: fn(&mut Record)| {
        let mut record = model();
        edit(&mut record);
        record.save_file(workspace.at(name), &BincodeRecorder::default()).unwrap();
    };
    save("a.quant", |_| {});
    save("metadata.quant", |record| {
        record.insert_metadata("author", "somebody");
    });
    save("state.quant", |record| {
        let (id, kind, data) = ("ids".into(), "tensor/I64 [1]".into(), vec![0; 8]);
        record.insert_state(RecordState { id, kind, data });
    });
    for (other, line) in
        [("metadata.quant", "metadata differs: author"), ("state.quant", "state differs: ids")]
    {
        let output = workspace.run(&["diff", "a.quant", other]);
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(shown.contains(line), "{shown}");
        assert!(shown.ends_with("tensors are equal; 1 differences in metadata and states\n"));
    }
}

#[test]
fn contradictory_flags_are_refused() {
    let workspace = Workspace::new();
    for args in [
        &["plan", "model.safetensors", "--budget", "20%", "--calibration", "mse"][..],
        &["plan", "model.safetensors", "--budget", "20%", "--scheme", "per-tensor-symmetric-int8"],
        &["plan", "model.safetensors", "--schemes", "float"],
        &["report", "model.safetensors", "--against", "model.safetensors", "--requantize"],
        &["report", "model.safetensors", "--against", "model.safetensors", "--schemes", "float"],
        &["diff", "a.npy", "b.npy", "--logits", "--ignore-index"],
        &["inspect", "model.safetensors", "--json", "--depth", "1"],
        &["diff", "model.safetensors", "model.safetensors", "--json", "--all"],
        &["diff", "model.safetensors", "model.safetensors", "--min-sqnr", "nan"],
        &["quantize", "model.safetensors", "-o", "a.quant", "--max-shard-size", "0"],
        &["quantize", "model.safetensors", "-o", "a.quant", "--max-memory", "2 parsecs"],
    ] {
        let (code, said) = workspace.fails(args);
        assert_eq!(code, 2, "{args:?}: {said}");
    }
    let (code, said) =
        workspace.fails(&["plan", "model.safetensors", "--calibration", "percentile:200"]);
    assert_eq!(code, 2);
    assert!(said.contains("greater than 0 and at most 100"), "{said}");
}

#[test]
fn blocks_that_no_row_consists_of_are_an_error() {
    let workspace = Workspace::new();
    let mut record = Record::new();
    record.insert("w", Tensor::from_values(&[2, 3], vec![1.0; 6]).unwrap());
    record.save_file(workspace.at("m.json"), &JsonRecorder::default()).unwrap();
    let (code, said) = workspace.fails(&["quantize", "m.json", "--scheme", "q8_0", "-o", "m.gguf"]);
    assert!(code == 2 && said.contains("w: no tensor has rows of whole blocks of Q8_0"), "{said}");
    assert!(!workspace.at("m.gguf").exists());
}

#[test]
fn a_directory_that_cannot_be_verified_is_not_called_damaged() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.at("empty")).unwrap();
    let (code, said) = workspace.fails(&["verify", "empty"]);
    assert_eq!(code, 3, "{said}");
    assert!(!said.contains("DAMAGED"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_fifo_in_the_place_of_a_recipe_or_an_array_is_an_error_at_once() {
    let workspace = Workspace::new();
    let made = std::process::Command::new("mkfifo").arg(workspace.at("fifo")).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no FIFO could be made");
        return;
    }
    for args in [
        &["plan", "model.safetensors", "--recipe", "fifo"][..],
        &["diff", "--logits", "fifo", "fifo"],
    ] {
        let (code, said) = workspace.fails(args);
        assert!(code == 3 && said.contains("not a regular file"), "{args:?}: {said}");
    }
}

#[test]
fn a_tensor_of_a_reserved_name_is_not_written_to_a_directory() {
    let workspace = Workspace::new();
    let names = ["--rename", r"^encoder\.layer\.0\..*weight$", "__metadata__"];
    let (code, said) =
        workspace.fails(&[&["convert", "model.safetensors", "-o", "out/"][..], &names].concat());
    assert!(code != 0 && said.contains("__metadata__"), "{said}");
    assert!(!workspace.at("out/model.safetensors").exists());
}

#[test]
fn errors_name_the_flag_that_caused_them() {
    let workspace = Workspace::new();
    for (args, expected) in [
        (
            &["plan", "model.safetensors", "--keep", "encoder.layer.7.**"][..],
            "--keep 'encoder.layer.7.**' matches no tensor",
        ),
        (&["plan", "model.safetensors", "--omit", "nothing"], "--omit 'nothing' matches no name"),
        (
            &["inspect", "model.safetensors", "--rename", "nothing", "x"],
            "--rename 'nothing' matches no name",
        ),
        (
            &["inspect", "model.safetensors", "--rename", "(", "x"],
            "`(` is not a regular expression",
        ),
        (
            &["quantize", "model.safetensors", "-o", "a.quant", "--max-memory", "24MiB"],
            "allow more with --max-memory",
        ),
    ] {
        let (code, said) = workspace.fails(args);
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn the_memory_that_an_error_names_is_enough() {
    let workspace = Workspace::new();
    let args = ["quantize", "model.safetensors", "-o", "a.quant", "--max-memory"];
    let (_, said) = workspace.fails(&[&args[..], &["1MB"]].concat());
    let needed = said.split("few; ").nth(1).unwrap().split(" are enough").next().unwrap();
    // Sizes are rounded to three digits.
    let needed: f64 = needed.strip_suffix(" MB").unwrap().parse().unwrap();
    workspace.ok(&[&args[..], &[&format!("{}MB", needed + 0.1)]].concat());
}

#[test]
fn errors_under_json_are_json() {
    let workspace = Workspace::new();
    for (args, code) in [
        (&["inspect", "none.quant", "--json"][..], 3),
        (&["plan", "model.safetensors", "--keep", "nothing", "--json"], 2),
        (&["inspect", "--json"], 2),
        (&["report", "none.quant", "--json"], 3),
    ] {
        let output = workspace.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error["error"]["exit_code"], code);
        assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_report_has_a_summary_in_json() {
    let workspace = Workspace::new();
    let json = workspace.json(&["report", "model.safetensors", "--json"]);
    assert_eq!(json["output"], "report.html");
    assert_eq!(json["tensors"].as_array().unwrap().len(), 6);
    assert!(json["tensors"][0]["sqnr_db"].as_f64().unwrap() > 20.0);
    let len = fs::metadata(workspace.at("report.html")).unwrap().len();
    assert_eq!(json["output_bytes"], len);
}

#[test]
fn long_names_and_many_tensors_take_linear_time() {
    let workspace = Workspace::new();
    let mut record = Record::new();
    record.insert("a.".repeat(100_000) + "w", Tensor::from_values(&[], vec![1.0]).unwrap());
    for i in 0..20_000 {
        record.insert(format!("t{i}"), Tensor::from_values(&[], vec![1.0]).unwrap());
    }
    record.save_file(workspace.at("a.quant"), &BincodeRecorder::default()).unwrap();
    let started = Instant::now();
    let shown = workspace.ok(&["inspect", "--quick", "a.quant"]);
    assert!(shown.lines().all(|line| line.chars().count() < 500));
    workspace.ok(&["diff", "a.quant", "a.quant"]);
    // Quadratic time took minutes.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error_and_not_a_panic() {
    let workspace = Workspace::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [
        &["completions", "zsh"][..],
        &["man"],
        &["--help"],
        &["inspect", "model.safetensors"],
        &["plan", "model.safetensors", "--json"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(args).current_dir(workspace.directory.path()).stdout(full());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {said}");
        assert!(said.contains("standard output cannot be written"), "{args:?}: {said}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
    let status = command.args(["inspect", "none.quant"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(3));
}

/// The commands of a text: lines that start with `quant ` after blanks.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("quant "));
    lines.map(words).collect()
}

/// The words of a command line with quotes, without the name of the program.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.into_iter().filter(|word| !word.is_empty()).skip(1).collect()
}

#[test]
fn the_examples_of_the_help_and_of_the_documentation_run() {
    let workspace = Workspace::new();
    let mut record = model();
    record.insert("encoder.head.weight", Tensor::from_values(&[1, 1], vec![1.0]).unwrap());
    record.insert("position_ids", Tensor::from_values(&[1], vec![1.0]).unwrap());
    record.save_file(workspace.at("model.safetensors"), &SafetensorsRecorder::default()).unwrap();
    quant_formats::write_moments(&moments(), workspace.at("m.safetensors")).unwrap();
    let help = workspace.ok(&["--help"]);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/command-line.md");
    let docs = fs::read_to_string(docs).unwrap_or_else(|_| {
        println!("SKIPPED: the examples of docs/command-line.md, which the package does not have");
        String::new()
    });
    let mut tried = 0;
    for args in commands(&help).into_iter().chain(commands(&docs)) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        workspace.ok(&args);
        tried += 1;
    }
    assert!(tried >= 10, "{tried} examples");
}

#[test]
fn the_methods_that_the_help_names_are_accepted() {
    let workspace = Workspace::new();
    let help = workspace.ok(&["plan", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let methods = help.split("How ranges are found: ").nth(1).unwrap().split(" [").next().unwrap();
    let methods: Vec<_> = methods.split(", ").collect();
    assert!(methods.len() >= 4, "{methods:?}");
    for method in methods {
        // Over whole tensors: entropy refuses the short rows of this model.
        let scheme = "per-tensor-symmetric-int8";
        workspace.ok(&["plan", "model.safetensors", "--calibration", method, "--scheme", scheme]);
    }
}

#[test]
fn what_another_program_has_quantized_is_named_and_not_quantized_again() {
    let workspace = Workspace::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/prequantized");
    for (folder, is) in [("gptq", "GPTQ int2"), ("awq", "AWQ int4"), ("fp8", "FP8 (5 tensors)")] {
        let model = golden.join(folder).join("model.safetensors");
        let model = model.to_str().unwrap();
        for command in [
            &["plan", model][..],
            &["quantize", model, "-o", "a.quant"],
            &["plan", model, "--budget", "30%"],
            &["report", model],
        ] {
            let (code, said) = workspace.fails(command);
            assert_eq!(code, 2, "{command:?}: {said}");
            assert!(said.contains(&format!("is quantized already: {is}")), "{said}");
            assert!(said.contains("`quant dequantize` makes it float"), "{said}");
        }
        let shown = workspace.ok(&["inspect", model]);
        assert!(shown.contains(&format!("  quantized already: {is}")), "{shown}");
        let json = workspace.json(&["inspect", "--json", "--quick", model]);
        assert!(json["prequantized"].as_str().unwrap().starts_with(is), "{json}");
        workspace.ok(&["dequantize", model, "-o", "float.safetensors"]);
        workspace.ok(&["quantize", "float.safetensors", "-o", "a.quant"]);
        workspace.ok(&["quantize", model, "-o", "b.quant", "--requantize"]);
        workspace.ok(&["diff", "a.quant", "b.quant"]);
    }
}

#[test]
fn codes_of_another_program_are_converted_and_what_is_float_says_why() {
    let workspace = Workspace::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/prequantized");
    let model = golden.join("gptq-sym");
    let model = model.to_str().unwrap();
    let shown = workspace.ok(&["inspect", "--quick", model]);
    assert!(shown.contains("per-block-full-range-int4:scale=f16"), "{shown}");
    let reason = "its columns are not in the order of their groups";
    assert!(shown.contains(&format!("floats: {reason}")), "{shown}");
    let json = workspace.json(&["inspect", "--json", "--quick", model]);
    let tensors = json["tensors"].as_array().unwrap();
    let act_order = tensors.iter().find(|it| it["name"] == "act_order.weight").unwrap();
    assert_eq!(
        (&act_order["type"], &act_order["as_floats"]),
        (&"GPTQ int4".into(), &reason.into())
    );
    workspace.ok(&["convert", model, "-o", "codes.quant"]);
    let shown = workspace.ok(&["inspect", "codes.quant"]);
    assert!(shown.contains("per-channel-full-range-int4"), "{shown}");
    let model = golden.join("awq");
    let model = model.to_str().unwrap();
    workspace.ok(&["convert", model, "-o", "codes.quant"]);
    workspace.ok(&["diff", model, "codes.quant"]);
}

#[test]
fn values_that_are_not_finite_are_said_whether_a_tensor_is_quantized_or_not() {
    let workspace = Workspace::new();
    let mut record = model();
    let mask = vec![0.0, f32::NEG_INFINITY, 0.0, 0.0];
    record.insert("mask", Tensor::from_values(&[2, 2], mask).unwrap());
    record.insert("bias", Tensor::from_values(&[2], vec![f32::NAN, 1.0]).unwrap());
    record.save_file(workspace.at("bad.safetensors"), &SafetensorsRecorder::default()).unwrap();
    let (code, said) = workspace.fails(&["quantize", "bad.safetensors", "-o", "a.quant"]);
    assert_eq!(code, 2);
    assert!(said.contains("mask") && said.contains("--keep 'mask'"), "{said}");
    let keep = ["--keep", "mask"];
    let shown = workspace.ok(&[&["plan", "bad.safetensors"], &keep[..]].concat());
    assert!(shown.contains("rank 1; 1 value is not finite"), "{shown}");
    assert!(shown.contains("--keep 'mask'; 1 value is not finite"), "{shown}");
    let done =
        workspace.run(&[&["quantize", "bad.safetensors", "-o", "a.quant"], &keep[..]].concat());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    let expected = "note: mask: 1 value is not finite\nnote: bias: 1 value is not finite\n";
    assert_eq!(said, expected);

    // Blocks of GGUF have no plan.
    let blocks = ["quantize", "bad.safetensors", "--scheme", "q8_0", "-o", "a.gguf"];
    let done = workspace.run(&[&blocks[..], &keep].concat());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    assert_eq!(said, expected);
}

#[test]
fn a_stale_index_is_an_error_that_names_the_way_around() {
    let workspace = Workspace::new();
    let index = r#"{"weight_map": {"gone": "model.safetensors"}}"#;
    fs::write(workspace.at("model.safetensors.index.json"), index).unwrap();
    let (code, said) = workspace.fails(&["inspect", "model.safetensors.index.json"]);
    assert_eq!(code, 3);
    assert!(said.contains("the index does not list this tensor of `model.safetensors`"), "{said}");
    assert!(said.contains("--ignore-index"), "{said}");
    let read =
        workspace.json(&["inspect", "model.safetensors.index.json", "--ignore-index", "--json"]);
    let file = workspace.json(&["inspect", "model.safetensors", "--json"]);
    assert_eq!(read["tensors"], file["tensors"]);

    let index = r#"{"weight_map": {"a": "none.safetensors"}}"#;
    fs::write(workspace.at("model.safetensors.index.json"), index).unwrap();
    let (_, said) = workspace.fails(&["inspect", "model.safetensors.index.json", "--ignore-index"]);
    assert!(said.contains("none.safetensors"), "{said}");
}

#[test]
fn a_quick_plan_has_the_outcomes_and_sizes_and_says_what_is_left_out() {
    let workspace = Workspace::new();
    for scheme in ["per-channel-symmetric-int8", "per-block-affine-int3:len=48:scale=f16"] {
        let plan = ["plan", "--json", "--scheme", scheme, "model.safetensors"];
        let whole = workspace.json(&plan);
        let quick = workspace.json(&[&plan[..], &["--quick"]].concat());
        for (whole, quick) in
            whole["params"].as_array().unwrap().iter().zip(quick["params"].as_array().unwrap())
        {
            for key in ["id", "shape", "action", "reason", "bytes_before", "bytes_after"] {
                assert_eq!(whole[key], quick[key], "{scheme}: {key}");
            }
            assert_eq!(quick["expected"], Value::Null);
        }
        assert!(quick["notes"][0].as_str().unwrap().starts_with("values were not read"));
    }
    let shown = workspace.ok(&["plan", "--quick", "model.safetensors"]);
    assert!(shown.contains("3 of 6 tensors to be quantized: 12.5 kB become 3.46 kB"), "{shown}");
    assert!(shown.ends_with("errors, warnings and equal tensors are not known\n"), "{shown}");
    let (code, message) = workspace.fails(&[
        "plan",
        "--quick",
        "--scheme",
        "per-channel-symmetric-int8:axis=2",
        "model.safetensors",
    ]);
    assert_eq!(code, 2, "{message}");
    let (code, _) = workspace.fails(&["plan", "--quick", "--budget", "40%", "model.safetensors"]);
    assert_eq!(code, 2);
}

#[test]
fn plan_quantize_and_report_point_out_a_better_axis() {
    let workspace = Workspace::new();
    let value = |i: usize| if i % 64 == 3 { 80.0 } else { (i as f32 * 0.37).sin() };
    let mut record = Record::new();
    record.insert(
        "up.weight",
        Tensor::from_values(&[32, 64], (0..2048).map(value).collect()).unwrap(),
    );
    record.save_file(workspace.at("t.quant"), &BincodeRecorder::default()).unwrap();
    let hint = "channels along axis 1 would be better by about 38 dB";
    let shown = workspace.ok(&["plan", "t.quant"]);
    assert!(shown.contains(hint), "{shown}");
    let output = workspace.run(&["quantize", "t.quant", "-o", "u.quant"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains(hint), "{said}");
    workspace.ok(&["report", "t.quant", "-o", "page.html"]);
    assert!(fs::read_to_string(workspace.at("page.html")).unwrap().contains(hint));
}

#[test]
fn moments_weigh_the_errors_of_calibrations_that_need_them() {
    let workspace = Workspace::new();
    let mut moments = moments();
    moments.insert("encoder.layer.3.dense", LayerMoments::from_diagonal(vec![1.0], 1).unwrap());
    quant_formats::write_moments(&moments, workspace.at("m.safetensors")).unwrap();
    let quantize = |more: &[&'static str]| {
        let start = ["quantize", "model.safetensors", "-o", "w4.quant", "--scheme", "int4"];
        [&start[..], more].concat()
    };
    let args = quantize(&["--calibration", "gptq", "--moments", "m.safetensors", "--json"]);
    let summary = workspace.json(&args);
    let action = &summary["plan"]["params"][0]["action"]["quantize"];
    assert_eq!(action["calibration"], "gptq");
    assert_eq!(
        summary["notes"][0],
        "2 second moments are of no tensor, such as those of encoder.head"
    );
    for (more, said) in [
        (&["--calibration", "gptq"][..], "need second moments of inputs"),
        (&["--moments", "m.safetensors"], "no calibration weighs errors by second moments"),
        (&["--calibration", "gptq", "--moments", "model.safetensors"], "has no second moments"),
    ] {
        let (code, message) = workspace.fails(&quantize(more));
        assert!(message.contains(said), "{more:?}: {message}");
        assert_eq!(code, if said.starts_with("has") { 3 } else { 2 }, "{message}");
    }
    let onto_input =
        ["plan", "model.safetensors", "--moments", "m.safetensors", "--calibration", "gptq"];
    let (code, message) =
        workspace.fails(&[&onto_input[..], &["--write-recipe", "m.safetensors"]].concat());
    assert!(code == 2 && message.contains("is an input"), "{message}");
    let blocks = ["quantize", "model.safetensors", "-o", "m.gguf", "--scheme", "q8_0"];
    let (code, message) = workspace.fails(&[&blocks[..], &["--moments", "m.safetensors"]].concat());
    assert!(code == 2 && message.contains("--moments: the scales of blocks"), "{message}");
}

#[test]
fn a_report_shows_the_outputs_of_layers() {
    let workspace = Workspace::new();
    let layers = r#"{
        "layers": [{"id": "<b>.fc", "scheme": "per-channel-symmetric-int8", "count": 4,
            "sqnr_db": 12.5, "cosine": 0.75, "max_abs_error": 0.5}],
        "unreached": ["unused"]
    }"#;
    fs::write(workspace.at("layers.json"), layers).unwrap();
    workspace.ok(&["report", "model.safetensors", "-o", "r.html", "--layers", "layers.json"]);
    let page = fs::read_to_string(workspace.at("r.html")).unwrap();
    assert!(page.contains("Outputs of layers") && page.contains("12.5"), "{page}");
    assert!(!page.contains("<b>.fc") && page.contains("No input reached <bdi>unused<"), "{page}");
    fs::write(workspace.at("layers.json"), "[]").unwrap();
    let report = ["report", "model.safetensors", "--layers", "layers.json"];
    let (code, message) = workspace.fails(&[&report[..], &["-o", "r.html"]].concat());
    assert!(code == 2 && message.contains("not a comparison of layers"), "{message}");
    let (code, message) = workspace.fails(&[&report[..], &["-o", "layers.json"]].concat());
    assert!(code == 2 && message.contains("is an input"), "{message}");
}
