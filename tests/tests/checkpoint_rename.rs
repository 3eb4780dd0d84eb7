//! Names are replaced as the rules say, and rules that do nothing are errors.

use quant::record::Record;
use quant::{BincodeRecorder, Module, Param, Tensor};
use quant_formats::{Rename, RenameError, SafetensorsRecorder};

#[derive(quant::Module)]
struct Encoder {
    layers: Vec<Layer>,
}

#[derive(quant::Module)]
struct Layer {
    weight: Param<[f32; 2]>,
    norm: Param<[f32; 1]>,
}

fn foreign() -> Record {
    let tensor = |values: &[f32]| Tensor::from_values(&[values.len()], values.to_vec()).unwrap();
    Record::from_iter([
        ("encoder.layer.0.dense.weight", tensor(&[1.0, 2.0])),
        ("encoder.layer.0.LayerNorm", tensor(&[3.0])),
        ("encoder.layer.1.dense.weight", tensor(&[4.0, 5.0])),
        ("encoder.layer.1.LayerNorm", tensor(&[6.0])),
        ("pooler.weight", tensor(&[7.0])),
    ])
}

fn rules() -> Rename {
    Rename::new()
        .replace(r"^encoder\.layer\.(\d+)\.", "layers.$1.")
        .and_then(|rename| rename.replace("dense.weight", "weight"))
        .and_then(|rename| rename.replace("LayerNorm", "norm"))
        .map(|rename| rename.omit("pooler.**"))
        .unwrap()
}

#[test]
fn a_foreign_checkpoint_fits_one_s_own_struct() {
    let bytes = foreign().save_bytes(&SafetensorsRecorder::default()).unwrap();
    let layer = || Layer { weight: Param::new([0.0; 2]), norm: Param::new([0.0]) };
    let recorder = SafetensorsRecorder::default().rename(rules());
    let encoder = Encoder { layers: vec![layer(), layer()] }.load_bytes(&bytes, &recorder).unwrap();
    assert_eq!(*encoder.layers[1].weight.value(), [4.0, 5.0]);
    assert_eq!(*encoder.layers[0].norm.value(), [3.0]);
}

#[test]
fn a_checkpoint_is_seen_under_its_new_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    foreign().save_file(&path, &BincodeRecorder::default()).unwrap();
    let renamed = rules().checkpoint(quant_formats::open(&path).unwrap()).unwrap();
    let names: Vec<_> = renamed.entries().iter().map(|entry| entry.id.to_string()).collect();
    assert_eq!(names, ["layers.0.weight", "layers.0.norm", "layers.1.weight", "layers.1.norm"]);
    let position = renamed.position("layers.1.weight").unwrap();
    renamed.verify(position).unwrap();
    assert_eq!(*renamed.read(position).unwrap().values(), [4.0, 5.0]);
}

#[test]
fn rejects_rules_without_effect_and_collisions() {
    let error = Rename::new().replace("(", "").unwrap_err();
    assert!(matches!(error, RenameError::Pattern { .. }));
    assert!(std::error::Error::source(&error).is_some());
    let rename =
        Rename::new().replace("a", "b").and_then(|rename| rename.replace("a", "c")).unwrap();
    let error = rename.names(&["xa"]).unwrap_err();
    assert!(matches!(error, RenameError::NoMatch { rule: 1, .. }), "{error:?}");
    let rename = Rename::new().replace(r"\d", "").unwrap();
    let error = rename.names(&["w1", "w2"]).unwrap_err();
    assert_eq!(error.to_string(), "w: both `w1` and `w2` would get this name");
}

#[test]
fn a_tensor_and_a_state_may_share_a_name() {
    let mut record = foreign();
    let (id, kind, data) = ("pooler.weight".into(), "kind".into(), vec![1]);
    record.insert_state(quant::record::RecordState { id, kind, data });
    let renamed = Rename::new().replace("pooler", "head").unwrap().record(record).unwrap();
    assert_eq!(renamed.get("head.weight").unwrap().shape(), [1]);
    assert_eq!(renamed.states()[0].id, "head.weight");
}
