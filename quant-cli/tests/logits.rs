//! `quant diff --logits` reads arrays of numpy, and prints how far a language model is from another.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// An array as numpy saves it: version 1.0, and a header padded to a multiple of 64 bytes.
fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn run(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
    command.args(args).current_dir(directory).output().unwrap()
}

fn fails(directory: &Path, args: &[&str]) -> (i32, String) {
    let output = run(directory, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Two positions of three tokens: in `a.npy`, and in `b.npy` with another most likely token.
fn workspace() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(directory.path().join(name), bytes).unwrap();
    write("a.npy", npy("<f4", "(1, 2, 3)", &f32s(&[2.0, 0.5, -1.0, 0.0, 3.0, 1.0])));
    write("b.npy", npy("<f4", "(1, 2, 3)", &f32s(&[2.0, 0.5, -1.0, 3.0, 0.0, 1.0])));
    let tokens = [0i64, 1].iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<_>>();
    write("tokens.npy", npy("<i8", "(2,)", &tokens));
    directory
}

fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
}

#[test]
fn logits_are_compared_by_divergence_top_tokens_and_perplexity() {
    let directory = workspace();
    let args = ["diff", "--logits", "a.npy", "b.npy", "--tokens", "tokens.npy", "--json"];
    let output = run(directory.path(), &args);
    assert_eq!(output.status.code(), Some(1), "the logits differ");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["positions"], &json["vocabulary"]), (&2.into(), &3.into()));
    close(&json["same_top"], 0.5);
    // By hand: exp(3) / (1 + e + exp(3)) = 0.843795 and 1 / (1 + e + exp(3)) = 0.042010, with a
    // difference of 3 between their logarithms.
    close(&json["kl"]["max"], (0.843_794_7 - 0.042_010_1) * 3.0);
    close(&json["kl"]["mean"], (0.843_794_7 - 0.042_010_1) * 1.5);
    close(&json["text"]["log_ratio"], 1.5);
    close(&json["text"]["log_ratio_error"], 1.5);
    let ratio = json["text"]["perplexity"].as_f64().unwrap()
        / json["text"]["reference_perplexity"].as_f64().unwrap();
    assert!((ratio.ln() - 1.5).abs() < 1e-9);

    let text = String::from_utf8(run(directory.path(), &args[..6]).stdout).unwrap();
    assert!(text.contains("same top token") && text.contains("50.00 %"), "{text}");
    assert!(text.contains("ln of their ratio") && text.ends_with("2 positions\n"), "{text}");
}

#[test]
fn equal_logits_are_no_difference_in_any_float_type() {
    let directory = workspace();
    let path = |name: &str| directory.path().join(name);
    let output = run(directory.path(), &["diff", "--logits", "a.npy", "a.npy"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("100.00 %") && !text.contains("perplexity"), "{text}");

    // 1.0 and -2.0 in half and in double precision.
    let half = [0x3c00u16, 0xc000].iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>();
    let double = [1.0f64, -2.0].iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>();
    fs::write(path("half.npy"), npy("<f2", "(2,)", &half)).unwrap();
    fs::write(path("double.npy"), npy("<f8", "(2,)", &double)).unwrap();
    let output = run(directory.path(), &["diff", "--logits", "half.npy", "double.npy"]);
    assert_eq!(output.status.code(), Some(0), "{:?}", String::from_utf8(output.stderr));
}

#[test]
fn a_file_that_is_no_array_of_floats_is_an_error_that_names_it() {
    let directory = workspace();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    let a = fs::read(directory.path().join("a.npy")).unwrap();
    write("text.npy", b"1 2 3\n");
    write("cut.npy", &a[..a.len() - 1]);
    write("long.npy", &[&a[..], &[0]].concat());
    write("column.npy", &replaced(&a, "False", "True "));
    write("object.npy", &replaced(&a, "<f4", "|O8"));
    write("huge.npy", &replaced(&a, "(1, 2, 3), }", "(99999999999, 99999999999), }"));
    write("scalar.npy", &npy("<f4", "()", &f32s(&[1.0])));
    for (file, expected) in [
        ("text.npy", "not an array of NumPy (.npy)"),
        ("cut.npy", "the header says"),
        ("long.npy", "but the file has"),
        ("column.npy", "stored column by column"),
        ("object.npy", "elements of type `|O8`"),
        ("huge.npy", "cannot be read in rows"),
        ("scalar.npy", "shape [] cannot be read in rows"),
        ("tokens.npy", "but floats are expected"),
        ("none.npy", "No such file"),
        (".", "is a directory"),
    ] {
        let (code, message) = fails(directory.path(), &["diff", "--logits", file, file]);
        assert_eq!(code, 3, "{file}: {message}");
        assert!(message.contains(file) && message.contains(expected), "{file}: {message}");
    }
}

/// With one text in place of another, and as much padding less in the header.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|it| it == from.as_bytes()).unwrap();
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let more = to.len() - from.len();
    let (before, after) = (&bytes[..at], &bytes[at + from.len()..end - more]);
    [before, to.as_bytes(), after, &bytes[end..]].concat()
}

#[test]
fn arrays_that_do_not_fit_together_are_an_error() {
    let directory = workspace();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("other.npy", &npy("<f4", "(2, 2)", &f32s(&[0.0; 4])));
    write("nan.npy", &npy("<f4", "(1, 2, 3)", &f32s(&[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0])));
    write("empty.npy", &npy("<f4", "(0, 3)", &[]));
    let integers = |values: &[i32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        npy("<i4", &format!("({},)", values.len()), &bytes)
    };
    write("one.npy", &integers(&[0]));
    write("negative.npy", &integers(&[0, -1]));
    write("unknown.npy", &integers(&[0, 3]));
    for (args, expected) in [
        (&["a.npy", "other.npy"][..], "a.npy: shape [1, 2, 3], but other.npy: [2, 2]"),
        (&["a.npy", "nan.npy"], "position 1: the logit of token 1 is NaN"),
        (&["empty.npy", "empty.npy"], "empty.npy: no positions"),
        (&["a.npy", "b.npy", "--tokens", "one.npy"], "one.npy: 1 tokens for 2 positions"),
        (&["a.npy", "b.npy", "--tokens", "negative.npy"], "negative.npy: a token is negative"),
        (&["a.npy", "b.npy", "--tokens", "unknown.npy"], "token 3 is not in a vocabulary of 3"),
        (&["a.npy", "b.npy", "--all"], "cannot be used with"),
    ] {
        let (code, message) = fails(directory.path(), &[&["diff", "--logits"], args].concat());
        assert_eq!(code, 2, "{args:?}: {message}");
        assert!(message.contains(expected), "{args:?}: {message}");
    }
    let (code, message) =
        fails(directory.path(), &["diff", "a.npy", "b.npy", "--tokens", "tokens.npy"]);
    assert_eq!(code, 2, "{message}");
}

#[test]
fn damaged_files_are_read_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let good = npy("<f4", "(2, 3)", &f32s(&[2.0, 0.5, -1.0, 0.0, 3.0, 1.0]));
    let mut bits = 1u32;
    for _ in 0..40 {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut bytes = good.clone();
        let at = bits as usize % bytes.len();
        bytes[at] ^= 1 << (bits >> 29);
        bytes.truncate(bytes.len() - (bits >> 8) as usize % 4);
        fs::write(directory.path().join("x.npy"), bytes).unwrap();
        let output = run(directory.path(), &["diff", "--logits", "x.npy", "x.npy"]);
        assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{output:?}");
    }
}
