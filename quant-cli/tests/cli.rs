//! The command line, run as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use quant::{BincodeRecorder, Module, Record, Tensor};
use quant_formats::SafetensorsRecorder;
use serde_json::Value;

/// A directory with a checkpoint in it, removed when dropped.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        model().save_file(bench.at("model.safetensors"), &SafetensorsRecorder::default()).unwrap();
        bench
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

#[test]
fn inspect_shows_a_tree_with_shapes_types_ranges_and_sizes() {
    let bench = Bench::new();
    let shown = bench.ok(&["inspect", "model.safetensors"]);
    assert!(
        shown.starts_with("model.safetensors: safetensors, 6 tensors, 3120 parameters, 12.2 KiB\n")
    );
    assert!(shown.contains("format = pt"), "{shown}");
    assert!(shown.contains("encoder.layer"), "{shown}");
    assert!(shown.contains("16×64") && shown.contains("-1.000 … 1.000"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours outside of a terminal");
    let json = bench.json(&["inspect", "--json", "model.safetensors"]);
    assert_eq!(json["tensors"][0]["name"], "encoder.layer.0.dense.weight");
    assert_eq!(json["tensors"][0]["shape"], serde_json::json!([16, 64]));
    assert_eq!(json["tensors"][0]["type"], "f32");
    assert_eq!(json["parameters"], 3120);
    let top = bench.ok(&["inspect", "--quick", "--depth", "1", "model.safetensors"]);
    assert!(top.contains("values and checksums were not read") && !top.contains("16×64"), "{top}");
}

#[test]
fn quantize_writes_a_record_that_verify_diff_and_dequantize_understand() {
    let bench = Bench::new();
    let said = bench.ok(&["quantize", "model.safetensors", "-o", "int8.quant"]);
    assert!(said.starts_with("3 of 6 tensors quantized: 12.2 KiB become 3.38 KiB"), "{said}");
    assert_eq!(
        bench.ok(&["verify", "int8.quant"]),
        "int8.quant: 6 tensors, all checksums are right\n"
    );

    let output = bench.run(&["diff", "model.safetensors", "int8.quant"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("f32 → per-channel-symmetric-int8"), "{shown}");
    assert!(shown.contains("3 of 6 tensors differ") && shown.contains(" dB "), "{shown}");
    bench.ok(&["diff", "model.safetensors", "int8.quant", "--min-sqnr", "40"]);
    bench.ok(&["diff", "int8.quant", "int8.quant"]);

    bench.ok(&["dequantize", "int8.quant", "-o", "back.safetensors"]);
    let json = bench.json(&["inspect", "--json", "back.safetensors"]);
    assert!(json["tensors"].as_array().unwrap().iter().all(|tensor| tensor["type"] == "f32"));
}

#[test]
fn conversion_through_every_format_changes_nothing() {
    let bench = Bench::new();
    bench.ok(&[
        "quantize",
        "model.safetensors",
        "-o",
        "a.quant",
        "--scheme",
        "per-block-affine-int4",
    ]);
    bench.ok(&["convert", "a.quant", "-o", "b.safetensors"]);
    bench.ok(&["convert", "b.safetensors", "-o", "c.json"]);
    bench.ok(&["convert", "c.json", "-o", "d.quant"]);
    assert_eq!(fs::read(bench.at("a.quant")).unwrap(), fs::read(bench.at("d.quant")).unwrap());
    bench.ok(&["convert", "a.quant", "-o", "parts.quant", "--max-part-size", "1KiB"]);
    bench.ok(&["diff", "a.quant", "parts.quant"]);
    let (code, said) =
        bench.fails(&["convert", "a.quant", "-o", "e.json", "--max-part-size", "1KiB"]);
    assert_eq!(code, 3, "{said}");
}

#[test]
fn plan_says_what_quantize_does() {
    let bench = Bench::new();
    let shown = bench.ok(&["plan", "model.safetensors", "--keep", "encoder.layer.0.**"]);
    assert!(shown.contains("rule 0 `encoder.layer.0.**`") && shown.contains("rank 1"), "{shown}");
    let plan = bench.json(&["plan", "--json", "model.safetensors"]);
    let done = bench.json(&["quantize", "--json", "model.safetensors", "-o", "a.quant"]);
    assert_eq!(done["plan"], plan);
    assert_eq!(done["output_bytes"], fs::metadata(bench.at("a.quant")).unwrap().len());
}

#[test]
fn a_budget_is_kept_and_its_choice_can_be_used_again() {
    let bench = Bench::new();
    let args =
        ["plan", "model.safetensors", "--budget", "30%", "--write-recipe", "r.toml", "--json"];
    let plan = bench.json(&args);
    let total = |plan: &Value, key: &str| -> u64 {
        plan["params"].as_array().unwrap().iter().map(|param| param[key].as_u64().unwrap()).sum()
    };
    assert!(total(&plan, "bytes_after") * 10 <= total(&plan, "bytes_before") * 3);
    let again = bench.json(&["plan", "model.safetensors", "--recipe", "r.toml", "--json"]);
    assert_eq!(total(&again, "bytes_after"), total(&plan, "bytes_after"));
    let (code, said) = bench.fails(&["plan", "model.safetensors", "--budget", "1%"]);
    assert_eq!(code, 2);
    assert!(said.starts_with("error: model.safetensors: "), "{said}");
}

#[test]
fn names_are_replaced_on_the_way_in() {
    let bench = Bench::new();
    let rename = ["--rename", r"encoder\.layer\.(\d+)", "layers.$1", "--omit", "bias$"];
    let args = [&["convert", "model.safetensors", "-o", "a.quant"][..], &rename].concat();
    bench.ok(&args);
    let json = bench.json(&["inspect", "--json", "a.quant"]);
    let names: Vec<_> = json["tensors"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["layers.0.dense.weight", "layers.1.dense.weight", "layers.2.dense.weight"]);
    let (code, said) = bench.fails(&["inspect", "model.safetensors", "--rename", "nothing", "x"]);
    assert_eq!(code, 2);
    assert!(said.contains("rule 0 `nothing` matches no name"), "{said}");
}

#[test]
fn a_report_is_one_page_about_every_tensor() {
    let bench = Bench::new();
    bench.ok(&["quantize", "model.safetensors", "-o", "a.quant"]);
    for args in [&[][..], &["--against", "a.quant"], &["--scheme", "per-tensor-affine-int4"]] {
        let said = bench.ok(&[&["report", "model.safetensors"], args].concat());
        assert!(said.starts_with("report.html: 6 tensors, "), "{said}");
        let page = fs::read_to_string(bench.at("report.html")).unwrap().replace("<wbr>", "");
        assert!(page.contains("encoder.layer.2.dense.weight") && page.contains("<svg"));
    }
    assert_eq!(bench.files(), 3);
}

#[test]
fn damage_is_found_and_named() {
    let bench = Bench::new();
    bench.ok(&["quantize", "model.safetensors", "-o", "a.quant"]);
    let mut bytes = fs::read(bench.at("a.quant")).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(bench.at("a.quant"), &bytes).unwrap();
    let output = bench.run(&["verify", "a.quant"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("DAMAGED") && said.contains("encoder.layer.2.dense."), "{said}");
    let (code, said) = bench.fails(&["dequantize", "a.quant", "-o", "b.quant"]);
    assert_eq!(code, 3);
    assert!(said.starts_with("error: a.quant: invalid record: encoder.layer.2.dense."), "{said}");
    assert!(said.contains("`quant verify` lists all damage"), "{said}");
    assert_eq!(bench.files(), 2, "nothing is left behind");
}

#[test]
fn what_cannot_be_done_is_said_with_a_code_and_leaves_the_output_alone() {
    let bench = Bench::new();
    fs::write(bench.at("old.quant"), "old").unwrap();
    fs::write(bench.at("bad.toml"), "[[rules]]\npath = \"nothing.*\"\nkeep = true\n").unwrap();
    fs::write(bench.at("worse.toml"), "schema = 8").unwrap();
    fs::write(bench.at("text.quant"), "hello").unwrap();
    let to_old = ["model.safetensors", "-o", "old.quant"];
    for (args, code, said) in [
        (vec!["quantize", "none.safetensors", "-o", "a.quant"], 3, "none.safetensors: "),
        (vec!["quantize", "text.quant", "-o", "a.quant"], 3, "text.quant: neither a record"),
        (vec!["quantize", "model.safetensors", "-o", "a.bin"], 2, "a.bin: the name should end in"),
        (
            vec!["quantize", "model.safetensors", "-o", "model.safetensors"],
            2,
            "read and written at once",
        ),
        (vec!["quantize", "model.safetensors", "-o", "no/a.quant"], 3, "no/a.quant: "),
        ([&["quantize"], &to_old[..], &["--recipe", "bad.toml"]].concat(), 2, "`nothing.*`"),
        ([&["quantize"], &to_old[..], &["--recipe", "worse.toml"]].concat(), 2, "worse.toml: "),
        ([&["quantize"], &to_old[..], &["--scheme", "int9"]].concat(), 2, "invalid value 'int9'"),
        ([&["quantize"], &to_old[..], &["--max-memory", "24MiB"]].concat(), 2, "--max-memory"),
        (vec!["quantize", "model.safetensors"], 2, "--output"),
        (vec!["verify", "none.quant"], 1, ""),
        (vec![], 2, "Usage"),
    ] {
        let (found, text) = bench.fails(&args);
        assert_eq!(found, code, "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert_eq!(fs::read(bench.at("old.quant")).unwrap(), b"old");
    assert_eq!(bench.files(), 5, "nothing is left behind");
}

#[test]
fn names_from_a_file_cannot_drive_the_terminal() {
    let bench = Bench::new();
    let mut record = Record::new();
    record.insert("\u{1b}[2Jevil", Tensor::from_values(&[1], vec![1.0]).unwrap());
    record.insert_metadata("k\u{7}", "\u{1b}]0;title\u{7}");
    record.save_file(bench.at("evil.quant"), &BincodeRecorder::default()).unwrap();
    assert!(!bench.ok(&["inspect", "evil.quant"]).contains(['\u{1b}', '\u{7}']));
    assert!(!bench.ok(&["plan", "evil.quant"]).contains(['\u{1b}', '\u{7}']));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(["inspect", "model.safetensors"])
        .current_dir(bench.directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[cfg(unix)]
#[test]
fn an_interrupted_command_leaves_no_half_file() {
    let bench = Bench::new();
    // Large enough that the signal comes before the end.
    let mut record = Record::new();
    for layer in 0..64 {
        let tensor = Tensor::from_values(&[512, 1024], vec![0.5; 512 * 1024]).unwrap();
        record.insert(format!("layer.{layer}"), tensor);
    }
    record.save_file(bench.at("large.quant"), &BincodeRecorder::default()).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(["quantize", "large.quant", "-o", "out.quant", "--calibration", "mse", "--jobs", "1"])
        .current_dir(bench.directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The temporary file is the sign that the work has begun.
    while bench.files() < 3 {
        std::thread::yield_now();
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; nothing was written"), "{said}");
    assert_eq!(bench.files(), 2);
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let bench = Bench::new();
    assert!(bench.ok(&["completions", "bash"]).contains("quantize"));
    assert!(bench.ok(&["man"]).contains(".TH quant"));
    fs::create_dir(bench.at("man")).unwrap();
    bench.ok(&["man", "man"]);
    assert!(Path::new(&bench.at("man")).join("quant-quantize.1").exists());
}
