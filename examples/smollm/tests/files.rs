//! Files of models: what is refused by name, and that a saved model is the same model.

mod tiny;

use std::error::Error;
use std::path::PathBuf;

use quant::Module;
use quant::kernel::scheme::KeyValueScheme;
use quant::record::{Record, RecordState};
use quant_formats::GgufRecorder;
use smollm::{Buffers, Checkpoint, Llama, Logits, Saved, Scheme, SmolError, Step};
use tempfile::TempDir;
use tiny::{CONFIG, SCHEMES, floats, prompt};

/// A value of the metadata of a GGUF file.
#[derive(Clone, Copy)]
enum Value {
    U32(u32),
    F32(f32),
    Text(&'static str),
}

/// The metadata of the tiny model.
fn metadata() -> Vec<(&'static str, Value)> {
    let size = |size: usize| Value::U32(size.try_into().unwrap());
    vec![
        ("general.architecture", Value::Text("llama")),
        ("llama.vocab_size", size(CONFIG.vocabulary)),
        ("llama.context_length", size(CONFIG.context)),
        ("llama.embedding_length", size(CONFIG.hidden)),
        ("llama.feed_forward_length", size(CONFIG.inner)),
        ("llama.block_count", size(CONFIG.layers)),
        ("llama.attention.head_count", size(CONFIG.heads)),
        ("llama.attention.head_count_kv", size(CONFIG.key_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(CONFIG.epsilon)),
    ]
}

/// The header of a GGUF file without tensors.
fn header(metadata: &[(&str, Value)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        let (id, value) = match value {
            Value::U32(value) => (4u32, value.to_le_bytes().to_vec()),
            Value::F32(value) => (6, value.to_le_bytes().to_vec()),
            Value::Text(value) => (8, text(value)),
        };
        bytes.extend([text(key), id.to_le_bytes().to_vec(), value].concat());
    }
    bytes
}

/// A GGUF file with the tensors of the tiny model, and with this metadata.
fn gguf(directory: &TempDir, metadata: &[(&str, Value)]) -> PathBuf {
    let mut record = Record::from_module(&floats()).unwrap();
    let (id, kind) = ("gguf.header".into(), "gguf/header".into());
    record.insert_state(RecordState { id, kind, data: header(metadata) });
    let path = directory.path().join("tiny.gguf");
    record.save_file(&path, &GgufRecorder::default()).unwrap();
    path
}

fn refused(metadata: &[(&str, Value)]) -> SmolError {
    let directory = TempDir::new().unwrap();
    Checkpoint::open(&gguf(&directory, metadata)).unwrap_err()
}

#[test]
fn a_model_of_another_architecture_is_refused_by_its_name() {
    for architecture in ["gpt2", "qwen2"] {
        let mut metadata = metadata();
        metadata[0].1 = Value::Text(architecture);
        let error = refused(&metadata);
        let expected = format!("the architecture is {architecture}, and this example runs llama");
        assert_eq!(error.to_string(), expected);
    }
    let error = refused(&metadata()[1..]);
    assert_eq!(error.to_string(), "the architecture is unnamed, and this example runs llama");
}

#[test]
fn sizes_that_are_missing_or_do_not_fit_are_refused_by_their_keys() {
    let metadata = metadata();
    for (at, (key, _)) in metadata.iter().enumerate().skip(1) {
        let mut without = metadata.clone();
        without.remove(at);
        // The heads of queries stand for those of keys.
        if key.ends_with("head_count_kv") {
            continue;
        }
        assert_eq!(
            refused(&without).to_string(),
            format!("{key}: missing, or not a value that fits")
        );
        let mut zero = metadata.clone();
        zero[at].1 = Value::Text("many");
        assert_eq!(refused(&zero).to_string(), format!("{key}: missing, or not a value that fits"));
    }
    let mut heads = metadata.clone();
    heads[6].1 = Value::U32(5);
    let expected = "96 columns, 5 heads of queries and 2 of keys do not divide each other";
    assert_eq!(refused(&heads).to_string(), expected);
}

#[test]
fn a_record_without_the_metadata_of_gguf_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("tiny.quant");
    floats().save_file(&path, &quant::BincodeRecorder::default()).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert_eq!(error.to_string(), "the file has no metadata of GGUF");
    let error = Checkpoint::open(&directory.path().join("none.gguf")).unwrap_err();
    assert_eq!(error.to_string(), "the file cannot be read");
}

fn logits(model: &Llama) -> Vec<u32> {
    let tokens = prompt(8, 40);
    let mut sequence = model.sequence(tokens.len()).unwrap();
    let mut steps = [Step { tokens: &tokens, sequence: &mut sequence }];
    let mut buffers = Buffers::default();
    let logits = model.forward(&mut steps, Logits::All, &mut buffers).unwrap();
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn a_saved_model_has_the_same_logits_bit_for_bit() {
    let directory = TempDir::new().unwrap();
    let checkpoint = Checkpoint::open(&gguf(&directory, &metadata())).unwrap();
    assert_eq!(checkpoint.saved(), None);
    for scheme in [SCHEMES.as_slice(), &[Scheme::Float]].concat() {
        for keys_values in KeyValueScheme::ALL {
            let how = Saved { scheme, keys_values };
            let model = checkpoint.model(scheme, keys_values).unwrap();
            let path = directory.path().join("saved.quant");
            checkpoint.save(&model, how, &path).unwrap();

            let saved = Checkpoint::open(&path).unwrap();
            assert_eq!((saved.saved(), saved.config()), (Some(how), checkpoint.config()));
            let again = saved.model(scheme, keys_values).unwrap();
            assert!(logits(&again) == logits(&model), "{how:?}");
            // Saved again, it is the same file.
            let copy = directory.path().join("copy.quant");
            saved.save(&again, how, &copy).unwrap();
            assert!(std::fs::read(&copy).unwrap() == std::fs::read(&path).unwrap(), "{how:?}");
        }
    }
}

#[test]
fn a_saved_model_runs_as_it_was_saved_or_as_floats() {
    let directory = TempDir::new().unwrap();
    let checkpoint = Checkpoint::open(&gguf(&directory, &metadata())).unwrap();
    let how = Saved { scheme: Scheme::W4a8, keys_values: KeyValueScheme::Int8 };
    let model = checkpoint.model(how.scheme, how.keys_values).unwrap();
    let path = directory.path().join("saved.quant");
    checkpoint.save(&model, how, &path).unwrap();

    let saved = Checkpoint::open(&path).unwrap();
    let error = saved.model(Scheme::Int8, KeyValueScheme::F32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model was saved as w4a8 with keys and values in int8; it runs so, or as float, and not as \
         int8 with f32"
    );
    assert!(saved.model(Scheme::W4a8, KeyValueScheme::Int4).is_err());
    let float = saved.model(Scheme::Float, KeyValueScheme::F32).unwrap();
    let of_codes = Scheme::Float.apply(model, KeyValueScheme::F32).unwrap();
    assert!(logits(&float) == logits(&of_codes));
}

#[test]
fn a_saved_model_of_an_unknown_scheme_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("saved.quant");
    for (scheme, keys_values, key) in
        [("w1", "int8", "smollm.scheme"), ("int8", "int1", "smollm.keys-values")]
    {
        let mut record = Record::from_module(&floats()).unwrap();
        let (id, kind) = ("gguf.header".into(), "gguf/header".into());
        record.insert_state(RecordState { id, kind, data: header(&metadata()) });
        let recorder = quant::BincodeRecorder::default()
            .metadata("smollm.scheme", scheme)
            .metadata("smollm.keys-values", keys_values);
        record.save_file(&path, &recorder).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{key}: missing, or not a value that fits"));
    }
}

#[test]
fn a_model_that_cannot_be_saved_is_an_error_with_the_path() {
    let directory = TempDir::new().unwrap();
    let checkpoint = Checkpoint::open(&gguf(&directory, &metadata())).unwrap();
    let how = Saved { scheme: Scheme::Int8, keys_values: KeyValueScheme::Int8 };
    let model = checkpoint.model(how.scheme, how.keys_values).unwrap();
    let path = directory.path().join("none/saved.quant");
    let error = checkpoint.save(&model, how, &path).unwrap_err();
    assert_eq!(error.to_string(), "the model cannot be saved");
    assert!(error.source().unwrap().to_string().contains("none"), "{:?}", error.source());
}
