//! JSON: every bit comes back, and what is no checkpoint is refused.

use proptest::prelude::*;
use quant::record::{Record, Recorder};
use quant::{BincodeRecorder, Module, Param, RecordError, Tensor};
use quant_formats::{CheckpointError, JsonRecorder, Options};
use tests::random::Random;
use tests::record::{chain, of_everything};

fn load(text: &[u8]) -> Result<Record, RecordError> {
    JsonRecorder::default().load(&mut &*text, Some(text.len() as u64))
}

fn native(record: &Record) -> Vec<u8> {
    record.save_bytes(&BincodeRecorder::default()).unwrap()
}

#[test]
fn the_text_and_its_values_count_as_memory() {
    let directory = tempfile::tempdir().unwrap();
    let [from, to] = ["m.json", "m.quant"].map(|name| directory.path().join(name));
    let values = (0..40_000).map(|i| i as f32 / 7.0).collect();
    let record = Record::from_iter([("w", Tensor::from_values(&[200, 200], values).unwrap())]);
    record.save_file(&from, &JsonRecorder::default()).unwrap();
    let held = from.metadata().unwrap().len() + 4 * 40_000;
    let from = quant_formats::open(from).unwrap();
    let convert = |max_memory: u64| {
        let mut options = Options::default();
        options.max_memory = Some(max_memory);
        quant_formats::convert(&from, &to, options)
    };
    let error = convert((24 << 20) + held).unwrap_err();
    let CheckpointError::Memory { needed, .. } = error else { panic!("{error:?}") };
    assert!(needed > (24 << 20) + held);
    convert(needed).unwrap();
}

#[test]
fn every_kind_of_tensor_comes_back_with_its_metadata_and_states() {
    let record = of_everything();
    let json = record.save_bytes(&JsonRecorder::default()).unwrap();
    assert!(native(&load(&json).unwrap()) == native(&record));

    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.json"), directory.path().join("a.quant"));
    std::fs::write(&from, &json).unwrap();
    quant_formats::convert(&quant_formats::open(&from).unwrap(), &to, Default::default()).unwrap();
    assert!(std::fs::read(&to).unwrap() == native(&record));
    quant_formats::convert(&quant_formats::open(&to).unwrap(), &from, Default::default()).unwrap();
    assert_eq!(std::fs::read(&from).unwrap(), json);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_float_comes_back_with_its_bits(bits: u32) {
        let value = f32::from_bits(bits);
        let json = Param::new(value).save_bytes(&JsonRecorder::default()).unwrap();
        let back = load(&json).unwrap().get("").unwrap().values()[0];
        prop_assert_eq!(back.to_bits(), bits);
    }
}

#[test]
fn rejects_what_is_not_a_checkpoint() {
    let file = |states: &str, tensors: &str| {
        format!(
            r#"{{"format": "quant-json/1", "metadata": {{}}, "states": {{{states}}}, "tensors": {{{tensors}}}}}"#
        )
    };
    let int8 = |rest: &str| {
        file("", &format!(r#""w": {{"scheme": "per-tensor-symmetric-int8", {rest}}}"#))
    };
    for (text, expected) in [
        (String::new(), "not a checkpoint in JSON: EOF"),
        ("[]".into(), "not a checkpoint in JSON: "),
        (file("", "").replace("json/1", "json/2"), "unknown format `quant-json/2`"),
        (
            file("", "").replace("\"states\"", "\"estates\""),
            "not a checkpoint in JSON: unknown field",
        ),
        (
            file("", r#""w": {"shape": [], "values": [1]}, "w": {"shape": [], "values": [1]}"#),
            "w: duplicate name",
        ),
        (file("", r#""w": {"shape": [2], "values": [1]}"#), "w: "),
        (file("", r#""w": {"shape": [1], "values": ["one"]}"#), "w: invalid value `\"one\"`"),
        (file("", r#""w": {"shape": [1], "values": [1e39]}"#), "w: invalid value `1e39`"),
        (
            file("", r#""w": {"shape": [1], "values": ["nan 0x3f800000"]}"#),
            "w: invalid value `\"nan 0x3f8",
        ),
        (file("", r#""w": {"shape": [1]}"#), "w: invalid value `neither `values` nor"),
        (file("", r#""w": {"shape": [1], "scheme": "int9", "scales": [1], "codes": [1]}"#), "w: "),
        (int8(r#""shape": [1], "scales": [1], "codes": [-128]"#), "w: invalid value `-128`"),
        (int8(r#""shape": [2], "scales": [1], "codes": [1]"#), "w: "),
        (int8(r#""shape": [1], "scales": [0], "codes": [1]"#), "w: not a valid tensor: "),
        (
            file(r#""s": {"kind": "k", "bytes": "0g"}"#, ""),
            "s: expected pairs of hexadecimal digits",
        ),
        (
            file(r#""s": {"kind": "k", "bytes": "012"}"#, ""),
            "s: expected pairs of hexadecimal digits",
        ),
        (
            file(r#""s": {"kind": "k", "bytes": "+1"}"#, ""),
            "s: expected pairs of hexadecimal digits",
        ),
    ] {
        let error = chain(&load(text.as_bytes()).expect_err(expected));
        assert!(error.contains(&format!(": {expected}")), "{error:?} should be {expected:?}");
    }
}

#[test]
fn a_hundred_thousand_mutations_are_read_or_refused() {
    let whole = of_everything().save_bytes(&JsonRecorder::default()).unwrap();
    let mut random = Random(5);
    for _ in 0..100_000 {
        let mut mutated = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(mutated.len());
            match random.below(3) {
                0 => mutated[at] = b"0123456789-e.\"[]{},: "[random.below(21)],
                1 => mutated[at] ^= 1 << random.below(8),
                _ => mutated.truncate(at + 1),
            }
        }
        let _ = load(&mutated);
    }
}
