//! Writes the seeds, from which fuzzing starts: `cargo run --example seeds`, in this directory.

use std::fs;
use std::path::Path;

use quant::activation::ActivationQuantizer;
use quant::record::{Record, RecordVersion};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, Param, Recipe};

fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&directory).expect("the directory of the seeds");
    fs::write(directory.join(name), bytes).expect("room for a seed");
}

fn records() {
    let save = |record: &Record| record.save_bytes(&BincodeRecorder::default()).expect("a record");
    for target in ["record_borrowed", "record_bytes", "record_file"] {
        let first = BincodeRecorder::default().version(RecordVersion::V1);
        for (id, tensor) in quant_fuzz::sample() {
            let name = format!("1-{}", id.as_str().replace([':', '='], "-"));
            // Half precision needs version 2.
            if let Ok(bytes) = Record::from_iter([(id, tensor)]).save_bytes(&first) {
                seed(target, &name, bytes);
            }
        }
        seed(target, "everything", save(&quant_fuzz::sample()));
        seed(target, "nothing", save(&Record::new()));
        for (number, (id, tensor)) in quant_fuzz::sample().into_iter().enumerate() {
            seed(target, &number.to_string(), save(&Record::from_iter([(id, tensor)])));
        }
    }
    let mut index = b"\x89QNI\r\n\x1a\n\x01\0\0\0\0\0\0\0".to_vec();
    index.extend(7u64.to_le_bytes());
    for (number, (id, tensor)) in quant_fuzz::sample().into_iter().enumerate() {
        let part = save(&Record::from_iter([(id, tensor)]));
        index.extend(1u64.to_le_bytes());
        index.extend(number.to_string().as_bytes());
        index.extend((part.len() as u64).to_le_bytes());
        index.extend(&part[12..16]);
    }
    quant_fuzz::reseal_index(&mut index);
    seed("record_index", "parts", index);
}

fn foreign() {
    use quant_formats::{JsonRecorder, SafetensorsRecorder};
    let all = quant_fuzz::sample();
    seed("safetensors", "everything", all.save_bytes(&SafetensorsRecorder::default()).expect("saved"));
    seed("json", "everything", all.save_bytes(&JsonRecorder::default()).expect("saved"));
    for (number, (id, tensor)) in all.into_iter().enumerate() {
        let (name, record) = (number.to_string(), Record::from_iter([(id, tensor)]));
        seed("safetensors", &name, record.save_bytes(&SafetensorsRecorder::default()).expect("saved"));
        seed("json", &name, record.save_bytes(&JsonRecorder::default()).expect("saved"));
    }
    let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},"i":{"dtype":"I64","shape":[1],"data_offsets":[6,14]}}"#;
    let mut halves = (header.len() as u64).to_le_bytes().to_vec();
    halves.extend(header.as_bytes());
    halves.extend([1; 14]);
    seed("safetensors", "halves", halves);
    seed("json", "index", r#"{"metadata": {"total_size": 8}, "weight_map": {"a": "model-1.safetensors"}}"#);
}

/// A GGUF file of floats, integers and blocks, with metadata.
fn gguf() {
    use quant_formats::GgufRecorder;
    let mut record = quant_fuzz::sample().into_iter().fold(Record::new(), |mut floats, (id, tensor)| {
        if !tensor.is_quantized() {
            floats.insert(id, tensor);
        }
        floats
    });
    record.insert_metadata("general.name", "seed");
    for (kind, len) in
        [("tensor/I64 [2]", 16), ("tensor/Q4_K [1, 256]", 144), ("tensor/Q8_0 [2, 32]", 68)]
    {
        let (id, data) = (kind[7..9].into(), vec![3; len]);
        record.insert_state(quant::record::RecordState { id, kind: kind.into(), data });
    }
    seed("gguf", "small", record.save_bytes(&GgufRecorder::default()).expect("saved"));
    let mut arrays = b"GGUF\x03\0\0\0".to_vec();
    arrays.extend(0u64.to_le_bytes());
    arrays.extend(2u64.to_le_bytes());
    for (key, inner) in [(b'a', 4u32), (b'b', 8)] {
        arrays.extend(1u64.to_le_bytes());
        arrays.push(key);
        [9, inner].iter().for_each(|ty: &u32| arrays.extend(ty.to_le_bytes()));
        arrays.extend(2u64.to_le_bytes());
        arrays.extend([0; 16].iter().take(if inner == 4 { 8 } else { 16 }));
    }
    seed("gguf", "arrays", arrays);
}

/// The golden files, each after its configuration.
fn prequantized() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/prequantized");
    for folder in fs::read_dir(golden).expect("the golden files") {
        let folder = folder.expect("a directory").path();
        let config = fs::read(folder.join("config.json")).unwrap_or_default();
        let len = u16::try_from(config.len()).expect("a short configuration");
        let file = fs::read(folder.join("model.safetensors")).expect("a golden file");
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name in Unicode");
        seed("prequantized", name, [&len.to_le_bytes()[..], &config, &file].concat());
    }
}

fn activations() {
    let state = |name: &str, activation: &ActivationQuantizer| {
        let record = Record::from_module(activation).expect("one state");
        record.states().iter().for_each(|state| seed("activation_state", name, &state.data));
    };
    let batches = || [vec![0.5f32, -1.0, 3.0], vec![2.0, 0.25]];
    for calibration in ["min-max", "moving-average", "percentile", "mse", "entropy"] {
        let Ok(method) = calibration.parse() else { panic!("{calibration} is no calibration") };
        let recipe =
            Recipe::new().activations(ActivationScheme::STATIC).activation_calibration(method);
        let observed = ActivationQuantizer::new()
            .calibrate(&recipe, batches(), |input, batch| input.observe(&batch))
            .expect("batches of numbers");
        state(calibration, &observed);
        state(&format!("{calibration}-static"), &observed.convert().expect("observed"));
    }
    let recipe = Recipe::new().activations(ActivationScheme::DYNAMIC);
    state("dynamic", &ActivationQuantizer::new().prepare(&recipe).expect("one activation"));
}

fn texts() {
    let recipe = r#"scheme = "per-channel-symmetric-int8"
calibration = "min-max"

[[rules]]
path = "1.**"
keep = true

[[rules]]
path = "{0,?}"
scheme = "per-block-symmetric-int4:len=2:scale=f16"
calibration = "mse"
"#;
    seed("recipe", "rules", recipe);
    let parsed: Recipe = toml::from_str(recipe).expect("a recipe");
    let model = (Param::new([[1.0f32, -2.0], [0.5, 4.0]]), vec![Param::new([1.0f32; 3])]);
    let plan = parsed.plan(&model).expect("rules that match");
    seed("plan", "rules", serde_json::to_vec(&plan).expect("a plan can be written"));
    for name in [
        "per-tensor-symmetric-int8",
        "per-channel-affine-int5:axis=-2",
        "per-block-affine-int2:len=64:scale=f16",
        "percentile:99.9",
        "static-affine-int8",
        "dynamic-symmetric-int8",
    ] {
        seed("names", &name.replace(':', "_"), name);
    }
}

fn main() {
    records();
    foreign();
    gguf();
    prequantized();
    activations();
    texts();
}
