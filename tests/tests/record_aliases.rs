//! A parameter that is used twice has a declared alias: it is saved once, and loads from either name.

use quant::record::{Difference, Record, RecordFile, RecordVersion};
use quant::{BincodeRecorder, MinMaxCalibration, Module, Param, Quantizer, RecordError, Tensor};
use tests::record::{load_both, reseal};

#[derive(Clone, Module)]
struct Table {
    weight: Param<[[f32; 2]; 2]>,
}

/// The table of embeddings is the output head, too.
#[derive(Clone, Module)]
struct Decoder {
    #[module(alias = "head.out")]
    embed: Table,
    norm: Param<[f32; 2]>,
}

#[derive(Clone, Module)]
enum Model {
    Text { decoder: Decoder },
    Either(#[module(alias = "tied")] Table),
}

fn model(values: [[f32; 2]; 2]) -> Model {
    let embed = Table { weight: Param::new(values) };
    Model::Text { decoder: Decoder { embed, norm: Param::new([1.0, 1.0]) } }
}

fn record(tensors: &[(&str, [f32; 4])]) -> Record {
    let mut record = Record::new();
    record.insert("Text.decoder.norm", Tensor::from_values(&[2], vec![5.0, 6.0]).unwrap());
    for (name, values) in tensors {
        let tensor = Tensor::from_values(&[2, 2], values.to_vec()).unwrap();
        record.insert(*name, tensor);
    }
    record
}

fn load(record: &Record) -> Result<Model, RecordError> {
    let bytes = record.save_bytes(&BincodeRecorder::default())?;
    model([[0.0; 2]; 2]).load_bytes(&bytes, &BincodeRecorder::default())
}

fn weight(model: &Model) -> [[f32; 2]; 2] {
    match model {
        Model::Text { decoder } => *decoder.embed.weight.value(),
        Model::Either(table) => *table.weight.value(),
    }
}

const OWN: &str = "Text.decoder.embed.weight";
const ALIAS: &str = "Text.decoder.head.out.weight";
const VALUES: [f32; 4] = [1.0, 2.0, 3.0, 4.0];

#[test]
fn a_parameter_loads_from_its_own_name_its_alias_or_both() {
    for tensors in [
        &[(OWN, VALUES)][..],
        &[(ALIAS, VALUES)],
        &[(OWN, VALUES), (ALIAS, VALUES)],
        &[(ALIAS, VALUES), (OWN, VALUES)],
    ] {
        assert_eq!(weight(&load(&record(tensors)).unwrap()), [[1.0, 2.0], [3.0, 4.0]]);
    }
}

#[test]
fn different_values_under_both_names_are_an_error() {
    let error = load(&record(&[(OWN, VALUES), (ALIAS, [1.0, 2.0, 3.0, 5.0])])).err().unwrap();
    let RecordError::Differences(differences) = &error else { panic!("{error:?}") };
    assert_eq!(*differences, [Difference::Alias { id: OWN.into(), alias: ALIAS.into() }]);
    assert_eq!(
        differences[0].to_string(),
        format!("{OWN}: differs from `{ALIAS}`, an alias of this parameter")
    );
}

#[test]
fn a_record_without_either_name_lacks_the_parameter() {
    let error = load(&record(&[])).err().unwrap();
    let RecordError::Differences(differences) = error else { panic!("{error:?}") };
    assert_eq!(differences, [Difference::Missing { id: OWN.into(), shape: vec![2, 2] }]);
}

#[test]
fn only_whole_steps_of_a_name_are_an_alias() {
    for name in ["Text.decoder.head.output.weight", "Text.decoder.head.out", "head.out.weight"] {
        let error = load(&record(&[(OWN, VALUES), (name, VALUES)])).err().unwrap();
        let RecordError::Differences(differences) = error else { panic!("{error:?}") };
        assert_eq!(differences, [Difference::Unexpected { id: name.into(), shape: vec![2, 2] }]);
    }
}

#[test]
fn an_alias_is_planned_quantized_and_saved_once() {
    let scheme = "per-channel-symmetric-int8".parse().unwrap();
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme };
    let model = model([[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(quantizer.plan(&model).unwrap().params().len(), 2);

    let quantized = model.quantize_weights(quantizer).unwrap();
    let record = Record::from_module(&quantized).unwrap();
    let names: Vec<&str> = record.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, [OWN, "Text.decoder.norm"]);
}

#[test]
fn an_alias_in_a_variant_stands_below_the_variant() {
    let mut record = Record::new();
    record.insert("Either.tied.weight", Tensor::from_values(&[2, 2], VALUES.to_vec()).unwrap());
    let bytes = record.save_bytes(&BincodeRecorder::default()).unwrap();
    let model = Model::Either(Table { weight: Param::new([[0.0; 2]; 2]) });
    let model = model.load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
    assert_eq!(weight(&model), [[1.0, 2.0], [3.0, 4.0]]);
}

/// Metadata whose keys look like aliases, and what stands before such keys in a file.
fn foreign(keys: &[&str]) -> Record {
    let mut record = record(&[(OWN, VALUES)]);
    for key in keys {
        record.insert_metadata(*key, OWN);
    }
    record
}

fn loaded(bytes: &[u8]) -> Record {
    load_both(&BincodeRecorder::default(), bytes).unwrap()
}

#[test]
fn metadata_of_the_user_is_never_an_alias() {
    let record = foreign(&[
        "quant.alias.",
        "quant.alias.other",
        "foreign.quant.alias.other",
        "foreign.foreign.quant.alias.other",
        "foreign.quant.other",
        "quant.aliases",
        "z",
    ]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    for version in [RecordVersion::V1, RecordVersion::V2] {
        let recorder = BincodeRecorder::default().version(version);
        assert_eq!(loaded(&record.save_bytes(&recorder).unwrap()), record);
        record.save_file(&path, &recorder.max_shard_size(64)).unwrap();
        let file = RecordFile::open(&path).unwrap();
        assert_eq!((file.metadata(), file.entries().len()), (record.metadata(), 2));
    }
    // It needs nothing of version 2.
    assert_eq!(record.save_bytes(&BincodeRecorder::default()).unwrap()[8], 1);
}

#[test]
fn a_file_older_than_aliases_keeps_keys_that_look_like_one() {
    let recorder = BincodeRecorder::default().version(RecordVersion::V1);
    let mut bytes = foreign(&["quant_alias.a", "quant_alias.b"]).save_bytes(&recorder).unwrap();
    for at in 0..bytes.len() - 12 {
        if bytes[at..].starts_with(b"quant_alias.") {
            bytes[at + 5] = b'.';
        }
    }
    reseal(&mut bytes);
    let record = loaded(&bytes);
    assert_eq!(record.metadata()["quant.alias.a"], OWN);
    assert_eq!(loaded(&record.save_bytes(&recorder).unwrap()), record);
}
