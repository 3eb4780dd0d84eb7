//! An unrelated crate that depends on `quant` by path: `downstream/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::{env, fs};

use serde_json::Value;

const TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/downstream");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("downstream")
}

/// The standard output of a command that succeeds.
#[track_caller]
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Builds the crate, once, with the versions of the workspace, and returns cargo's messages.
static MESSAGES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(workspace, folder().join("Cargo.lock")).unwrap();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(folder()).env("CARGO_TARGET_DIR", TARGET);
    build.args(["build", "--offline", "--message-format=json"]);
    let messages = output(&mut build);
    messages.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
});

/// The file that was built for a target.
fn artifact(target: &str) -> PathBuf {
    let is_it = |message: &&Value| {
        message["reason"] == "compiler-artifact" && message["target"]["name"] == target
    };
    let artifact = MESSAGES.iter().find(is_it).unwrap();
    let executable = &artifact["executable"];
    let file = if executable.is_null() { &artifact["filenames"][0] } else { executable };
    file.as_str().unwrap().into()
}

#[test]
fn the_snippet_of_the_design_runs() {
    let mut run = Command::new(artifact("downstream"));
    assert_eq!(output(run.current_dir(TARGET)), "mlp: 13 parameters\n");
}

#[test]
fn the_snippet_is_that_of_the_design() {
    let design = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/design.md");
    let design = fs::read_to_string(design).unwrap();
    let snippet = design.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let main = fs::read_to_string(folder().join("src/main.rs")).unwrap();
    let mut main = main.lines().map(str::trim);
    for line in snippet.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(main.any(|found| found == line), "not in main.rs, or not in order: {line}");
    }
}

/// The derive's promise: at most 30 lines for a struct of three layers.
#[test]
fn a_struct_of_three_layers_takes_few_lines() {
    let quant = artifact("quant");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    // For `-Z`, on any compiler.
    rustc.env("RUSTC_BOOTSTRAP", "1").args(["--edition=2024", "-Zunpretty=expanded"]);
    rustc.arg(format!("--extern=quant={}", quant.display()));
    rustc.arg(format!("-Ldependency={TARGET}/debug/deps"));
    let expanded = output(rustc.arg(folder().join("src/bin/three_layers.rs")));
    let lines = expanded.lines().skip_while(|line| !line.starts_with("const _"));
    let lines = lines.take_while(|line| !line.starts_with("struct")).count();
    assert!((10..=30).contains(&lines), "{lines}:\n{expanded}");
    assert_eq!(lines, 23, "state it anew in the documentation of the derive");
}
