//! Checkpoints of every kind into models of Rust types.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD, IxDyn};
use quant::record::{Difference, Record, RecordState};
use quant::{BincodeRecorder, Module, Param, RecordError, Tensor};
use quant_formats::{Checkpoint, GgufRecorder, Options, Rename, SafetensorsRecorder};
use quant_nn::{ForwardError, InputOrder, InputOrderError, Linear};
use tests::arrays::random;

fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/prequantized").join(folder)
}

fn open(path: impl AsRef<Path>) -> Checkpoint {
    quant_formats::open(path).unwrap()
}

/// Only one layer of a golden, called `fc`.
fn layer(folder: &str, name: &str) -> Checkpoint {
    let names: Vec<_> = open(golden(folder)).entries().iter().map(|it| it.id.to_string()).collect();
    let others = names.iter().filter(|it| it.split_once('.').unwrap().0 != name);
    let rename = others.fold(Rename::new(), Rename::omit);
    rename.replace(&format!("^{name}\\."), "fc.").unwrap().checkpoint(open(golden(folder))).unwrap()
}

/// The float values of a layer of a golden.
fn expected(folder: &str, name: &str) -> Array2<f32> {
    let values = open(golden(folder).join("expected.safetensors"));
    let tensor = values.read(values.position(&format!("{name}.weight")).unwrap()).unwrap();
    let shape = (tensor.shape()[0], tensor.shape()[1]);
    Array2::from_shape_vec(shape, tensor.into_values()).unwrap()
}

#[derive(Clone, Debug, Module)]
struct Model {
    fc: Linear,
}

impl Model {
    fn of_shape(shape: &[usize], has_bias: bool) -> Self {
        let bias = has_bias.then(|| ArrayD::zeros(IxDyn(&shape[..1])));
        Self { fc: Linear::new(ArrayD::zeros(IxDyn(shape)), bias).unwrap() }
    }
}

/// A layer without a place for the order of its inputs.
#[derive(Module)]
struct Plain {
    fc: PlainLinear,
}

#[derive(Module)]
struct PlainLinear {
    weight: Param<Array2<f32>>,
    bias: Option<Param<Vec<f32>>>,
}

#[test]
fn weights_of_each_method_are_parameters_with_codes() {
    for (folder, name, has_bias, scheme) in [
        ("gptq-sym", "b4", true, "per-block-full-range-int4:scale=f16"),
        ("gptq-v2", "b4", true, "per-block-affine-int4:scale=f16"),
        ("awq", "a", true, "per-block-affine-int4:scale=f16"),
        ("compressed-tensors", "w8", false, "per-channel-full-range-int8"),
        ("compressed-tensors", "int4", false, "per-block-full-range-int4:scale=bf16"),
    ] {
        let wanted = expected(folder, name);
        let model = Model::of_shape(wanted.shape(), has_bias);
        let model = layer(folder, name).load_into(model).unwrap();
        assert_eq!(model.fc.weight.quantized().unwrap().scheme().to_string(), scheme);
        assert_eq!(model.fc.input_order, InputOrder::new());
        let values = model.clone().dequantize().fc.weight.value().into_owned();
        assert_eq!(values, wanted.into_dyn(), "{folder}");
        let x = random(&[3, model.fc.in_features()], 1);
        assert_eq!(model.fc.forward(&x).unwrap().shape(), [3, model.fc.out_features()]);
    }
}

#[test]
fn act_order_becomes_groups_in_order_and_the_order_of_the_inputs() {
    for (folder, has_bias, scheme) in [
        ("gptq-v2", true, "per-block-affine-int3:scale=f16"),
        ("gptq-sym", true, "per-block-full-range-int4:scale=f16"),
        ("compressed-tensors", false, "per-block-full-range-int4:scale=bf16"),
    ] {
        let wanted = expected(folder, "act_order");
        let checkpoint = layer(folder, "act_order");
        let model = checkpoint.load_into(Model::of_shape(wanted.shape(), has_bias)).unwrap();
        assert_eq!(model.fc.weight.quantized().unwrap().scheme().to_string(), scheme);
        let order = model.fc.input_order.indices().expect("act-order").to_vec();
        let sorted = model.fc.weight.quantized().unwrap().dequantize();
        let (columns, mut exact) = (order.len(), 0);
        for (at, value) in sorted.iter().enumerate() {
            let before = wanted[[at / columns, order[at % columns] as usize]];
            exact += usize::from(value.to_bits() == before.to_bits());
        }
        assert_eq!(exact, wanted.len(), "{folder}");

        // The same layer over floats.
        let x = random(&[5, columns], 3);
        let bias = model.fc.bias.as_ref().map(|bias| bias.value().into_owned());
        let float = Linear::new(wanted.clone().into_dyn(), bias).unwrap().forward(&x).unwrap();
        let y = model.fc.forward(&x).unwrap();
        assert!(y.iter().zip(&float).all(|(a, b)| (a - b).abs() < 1e-4), "{folder}");

        // A record keeps codes and order.
        let bytes = model.save_bytes(&BincodeRecorder::default()).unwrap();
        let again = Model::of_shape(wanted.shape(), has_bias);
        let again = again.load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
        assert_eq!(again.fc.input_order, model.fc.input_order);
        assert_eq!(again.fc.forward(&x).unwrap(), y);

        // A model that has no place for the order gets floats.
        let (weight, bias) = (Array2::zeros(wanted.dim()).into(), vec![0.0; wanted.nrows()]);
        let bias = has_bias.then(|| bias.into());
        let plain = Plain { fc: PlainLinear { weight, bias } };
        let plain = checkpoint.load_into(plain).unwrap();
        assert!(plain.fc.bias.is_some() == has_bias && !plain.fc.weight.is_quantized());
        assert_eq!(*plain.fc.weight.value(), wanted, "{folder}");
    }
}

#[test]
fn an_input_is_taken_in_its_order_and_refused_in_another_length() {
    let mut layer = Linear::new(random(&[4, 6], 1), None).unwrap();
    let x = random(&[2, 3, 6], 2);
    let order = vec![5, 0, 4, 1, 2, 3];
    layer.input_order = InputOrder::from_indices(order.clone()).unwrap();
    let permuted = ArrayD::from_shape_fn(x.shape(), |at| x[[at[0], at[1], order[at[2]] as usize]]);
    let y = layer.forward(&x).unwrap();
    layer.input_order = InputOrder::new();
    assert_eq!(y, layer.forward(&permuted).unwrap());
    layer.input_order = InputOrder::from_indices(order).unwrap();
    let error = layer.forward(&random(&[2, 5], 1)).unwrap_err();
    let ForwardError::Shape { expected, found, .. } = error else { panic!("{error:?}") };
    assert_eq!((&*expected, &*found), ("an input of shape […, 6]", &[2, 5][..]));
    let error = quant_nn::permute_columns(&random(&[2, 2], 1), &[0, 2]).unwrap_err();
    assert_eq!(error, ForwardError::Index { position: 1, index: 2, rows: 2 });
}

#[test]
fn only_permutations_are_orders() {
    let of = |indices: &[u32]| InputOrder::from_indices(indices.to_vec());
    assert_eq!(of(&[0, 1, 2]).unwrap(), InputOrder::new());
    assert_eq!(of(&[]).unwrap().indices(), None);
    assert_eq!(of(&[1, 0]).unwrap().indices(), Some(&[1, 0][..]));
    for (indices, expected, said) in [
        (
            &[0, 3, 1][..],
            InputOrderError::Index { position: 1, index: 3, inputs: 3 },
            "position 1 of the order has input 3 of 3",
        ),
        (
            &[1, 0, 1],
            InputOrderError::Repeated { position: 2, index: 1 },
            "position 2 of the order has input 1 a second time",
        ),
    ] {
        let error = of(indices).unwrap_err();
        assert_eq!((error.to_string(), error), (said.into(), expected));
    }
}

#[test]
fn an_identity_writes_nothing_and_a_bad_order_is_not_loaded() {
    let model = Model::of_shape(&[2, 3], false);
    let mut record = BincodeRecorder::default();
    let bytes = model.save_bytes(&record).unwrap();
    let read = quant::record::Recorder::load(&record, &mut &*bytes, None).unwrap();
    assert_eq!(read.states(), []);
    record = BincodeRecorder::default();
    for (data, said) in [
        (&[0u8; 5][..], "the order of inputs has not 4 bytes for each"),
        (&[1, 0, 0, 0, 1, 0, 0, 0], "position 1 of the order has input 1 a second time"),
        (&[255; 4], "position 0 of the order has input 4294967295 of 1"),
    ] {
        let mut read = quant::record::Recorder::load(&record, &mut &*bytes, None).unwrap();
        let (id, kind) = ("fc.input_order".into(), "input-order/1".into());
        read.insert_state(RecordState { id, kind, data: data.into() });
        let error = model.clone().load_record(read).unwrap_err();
        let RecordError::Differences(found) = error else { panic!("{error:?}") };
        let [Difference::State { id, reason }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((id.as_str(), &**reason), ("fc.input_order", said));
    }
}

#[test]
fn the_record_with_an_order_of_inputs_loads_forever() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/record-v1-input-order.quant");
    let weight = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![10.0, 1.0, 100.0]).unwrap();
    let mut model = Model { fc: Linear::new(weight, None).unwrap() };
    model.fc.input_order = InputOrder::from_indices(vec![1, 0, 2]).unwrap();
    if std::env::var_os("QUANT_BLESS").is_some() {
        model.save_file(&path, &BincodeRecorder::default()).unwrap();
    }
    let read = Model::of_shape(&[1, 3], false).load_file(&path, &BincodeRecorder::default());
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![1.0, 2.0, 3.0]).unwrap();
    assert_eq!(read.unwrap().fc.forward(&x).unwrap()[[0, 0]], 321.0);
    let bytes = model.save_bytes(&BincodeRecorder::default()).unwrap();
    assert!(bytes == std::fs::read(path).unwrap(), "the writer has changed");
}

/// Two parameters of a checkpoint of any format.
#[derive(Module)]
struct Pair {
    a: Param<Vec<f32>>,
    b: Param<[[f32; 32]; 2]>,
}

impl Pair {
    fn new(a: f32, b: f32) -> Self {
        Self { a: vec![a; 3].into(), b: Param::new([[b; 32]; 2]) }
    }
}

#[test]
fn checkpoints_of_every_format_load_into_a_model_by_rules() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let pair = Pair::new(1.0, 2.0);
    pair.save_file(at("m.quant"), &BincodeRecorder::default().max_shard_size(100)).unwrap();
    pair.save_file(at("m.safetensors"), &SafetensorsRecorder::default()).unwrap();
    pair.save_file(at("m.gguf"), &GgufRecorder::default()).unwrap();
    quant_formats::convert(&open(at("m.quant")), at("m.json"), Options::default()).unwrap();
    let mut options = Options::default();
    options.max_shard_size = Some(100);
    let inputs = quant_formats::Inputs::Float;
    quant_formats::convert_folder(&open(at("m.quant")), inputs, at("shards"), options).unwrap();
    assert!(at("shards/model.safetensors.index.json").exists());
    for name in ["m.quant", "m.safetensors", "m.gguf", "m.json", "shards"] {
        let loaded = open(at(name)).load_into(Pair::new(0.0, 0.0)).unwrap();
        assert_eq!((&**loaded.a.value(), loaded.b.value()[1][31]), (&[1.0; 3][..], 2.0), "{name}");
        let rename = Rename::new().replace("^a$", "b").unwrap().replace("^b$", "a");
        let error = rename.unwrap().checkpoint(open(at(name))).map(drop).unwrap_err();
        assert!(error.to_string().contains("a: both"), "{name}: {error}");
        let rename = Rename::new().replace("^", "x.").unwrap().checkpoint(open(at(name))).unwrap();
        let error = rename.load_into(Pair::new(0.0, 0.0)).map(drop).unwrap_err();
        let RecordError::Differences(found) = error else { panic!("{error:?}") };
        assert_eq!(found.len(), 4, "{name}: {found:?}");
    }
}

#[test]
fn a_gguf_file_that_is_split_loads_into_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let part = |no: u16, name: &str, shape: &[u64], values: &[f32]| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend([1u64, 2].iter().flat_map(|it| it.to_le_bytes()));
        for (key, value) in [("split.no", no), ("split.count", 2)] {
            bytes.extend([text(key), vec![2, 0, 0, 0], value.to_le_bytes().to_vec()].concat());
        }
        bytes.extend([text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat());
        bytes.extend(shape.iter().flat_map(|it| it.to_le_bytes()));
        bytes.extend([0; 12]);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(values.iter().flat_map(|it| it.to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        let name = format!("m-{:05}-of-00002.gguf", no + 1);
        std::fs::write(directory.path().join(name), bytes).unwrap();
    };
    part(0, "a", &[3], &[1.0; 3]);
    part(1, "b", &[32, 2], &[2.0; 64]);
    let from = open(directory.path().join("m-00002-of-00002.gguf"));
    let loaded = from.load_into(Pair::new(0.0, 0.0)).unwrap();
    assert_eq!((&**loaded.a.value(), loaded.b.value()[1][31]), (&[1.0; 3][..], 2.0));
}

#[test]
fn the_header_of_a_gguf_file_is_left_out_of_a_record_too() {
    let directory = tempfile::tempdir().unwrap();
    let (gguf, record) = (directory.path().join("a.gguf"), directory.path().join("a.quant"));
    Pair::new(1.0, 2.0).save_file(&gguf, &GgufRecorder::default()).unwrap();
    quant_formats::convert(&open(&gguf), &record, Options::default()).unwrap();
    assert!(!open(&record).states().unwrap().is_empty());
    open(&record).load_into(Pair::new(0.0, 0.0)).unwrap();
    // Other states that the model lacks are differences.
    let mut other = Record::new();
    other.insert("a", Tensor::from_values(&[3], vec![0.0; 3]).unwrap());
    other.insert("b", Tensor::from_values(&[2, 32], vec![0.0; 64]).unwrap());
    let (id, kind) = ("ids".into(), "tensor/I32 [1]".into());
    other.insert_state(RecordState { id, kind, data: vec![0; 4] });
    let path = directory.path().join("b.safetensors");
    other.save_file(&path, &SafetensorsRecorder::default()).unwrap();
    let error = open(&path).load_into(Pair::new(0.0, 0.0)).map(drop).unwrap_err();
    let RecordError::Differences(found) = error else { panic!("{error:?}") };
    assert!(matches!(&found[..], [Difference::UnexpectedState { .. }]), "{found:?}");
}
