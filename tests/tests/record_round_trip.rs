//! Loading a saved record restores it, with and without the types of the model.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Array3, ArrayD, IxDyn, s};
use quant::module::{ModuleVisitor, ParamView};
use quant::record::RecordState;
use quant::record::{Difference, Record, Recorder};
use quant::tensor::TensorError;
use quant::{
    BincodeRecorder, FloatTensor, MinMaxCalibration, Module, ModuleMapper, Param, ParamId,
    QuantizationScheme, Quantizer, RecordError, Tensor,
};
use tests::random::Random;
use tests::record::of_everything;

fn native() -> BincodeRecorder {
    BincodeRecorder::default()
}

fn load(bytes: &[u8]) -> Record {
    native().load(&mut &*bytes, Some(bytes.len() as u64)).unwrap()
}

fn quantizer(scheme: &str) -> Quantizer<MinMaxCalibration> {
    let scheme: QuantizationScheme = scheme.parse().unwrap();
    Quantizer { calibration: MinMaxCalibration {}, scheme }
}

type Mlp = (BTreeMap<String, Param<Array2<f32>>>, Vec<Param<Array1<f32>>>);

fn mlp(mut fill: impl FnMut() -> f32) -> Mlp {
    let mut matrix =
        |rows, columns| Param::new(Array2::from_shape_simple_fn((rows, columns), &mut fill));
    let weights = BTreeMap::from([("fc1".into(), matrix(7, 13)), ("fc2".into(), matrix(3, 7))]);
    let biases = [7, 3].map(|len| Param::new(Array1::from_shape_simple_fn(len, &mut fill)));
    (weights, biases.into())
}

fn trained() -> Mlp {
    let mut random = Random(7);
    mlp(|| random.unit())
}

fn untrained() -> Mlp {
    mlp(|| 0.0)
}

const SCHEMES: [&str; 9] = [
    "per-tensor-symmetric-int8",
    "per-tensor-affine-int7",
    "per-channel-symmetric-int6",
    "per-channel-affine-int5:axis=1",
    "per-channel-symmetric-int4:axis=-1",
    "per-channel-affine-int3",
    "per-block-symmetric-int2:len=5",
    "per-block-affine-int4:len=4:scale=f16",
    "per-block-symmetric-int8:scale=f16",
];

#[test]
fn float_models_round_trip() {
    let bytes = trained().save_bytes(&native()).unwrap();
    assert!(untrained().load_bytes(&bytes, &native()).unwrap() == trained());
}

#[test]
fn quantized_models_load_into_float_ones_under_every_scheme() {
    for scheme in SCHEMES {
        let model = trained().quantize_weights(quantizer(scheme)).unwrap();
        let bytes = model.save_bytes(&native()).unwrap();
        let again = untrained().load_bytes(&bytes, &native()).unwrap();
        assert!(again == model, "{scheme}");
        assert!(again.0["fc1"].is_quantized() && !again.1[0].is_quantized());
        assert!(again.dequantize() == model.dequantize(), "{scheme}");
    }
}

#[test]
fn float_records_make_quantized_models_float() {
    let bytes = trained().save_bytes(&native()).unwrap();
    let quantized = trained().quantize_weights(quantizer(SCHEMES[0])).unwrap();
    assert!(quantized.load_bytes(&bytes, &native()).unwrap() == trained());
}

#[test]
fn saving_twice_gives_the_same_bytes() {
    let record = of_everything();
    let bytes = record.save_bytes(&native()).unwrap();
    assert_eq!(load(&bytes), record);
    assert_eq!(load(&bytes).save_bytes(&native()).unwrap(), bytes);
    assert_eq!(Record::from_module(&record).unwrap(), record);
}

#[test]
fn readers_with_short_reads_are_read_to_the_end() {
    struct Slow<'a>(&'a [u8]);
    impl std::io::Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(13);
            self.0.read(&mut buffer[..len])
        }
    }
    let mut bytes = Vec::new();
    trained().save_to(&mut bytes, &native()).unwrap();
    assert!(untrained().load_from(Slow(&bytes), &native()).unwrap() == trained());
}

/// Sections of more than one chunk, with and without a known length.
#[test]
fn sections_of_several_chunks_round_trip() {
    let mut random = Random(3);
    let large = Param::new(Array2::from_shape_simple_fn((771, 517), || 1000.0 * random.unit()));
    for scheme in [None, Some("per-block-affine-int8:len=3:scale=f16")] {
        let model = match scheme {
            None => large.clone(),
            Some(scheme) => large.clone().quantize_weights(quantizer(scheme)).unwrap(),
        };
        let bytes = model.save_bytes(&native()).unwrap();
        let fresh = || Param::new(Array2::zeros((771, 517)));
        assert!(fresh().load_bytes(&bytes, &native()).unwrap() == model);
        assert!(fresh().load_from(bytes.as_slice(), &native()).unwrap() == model);
    }
}

#[test]
fn arrays_of_any_layout_are_stored_in_row_major_order() {
    let base = Array3::from_shape_fn((4, 5, 6), |(i, j, k)| (100 * i + 10 * j + k) as f32);
    let mut transposed = base.clone();
    transposed.swap_axes(0, 2);
    let mut reversed = base.clone();
    reversed.invert_axis(ndarray::Axis(1));
    let sliced = base.slice_move(s![1..;2, ..;-2, 2..5]);
    for array in [transposed, reversed, sliced] {
        let bytes = Param::new(array.clone()).save_bytes(&native()).unwrap();
        let logical: Vec<f32> = array.iter().copied().collect();
        assert_eq!(*load(&bytes).get("").unwrap().values(), *logical);
        let again =
            Param::new(Array3::<f32>::zeros(array.dim())).load_bytes(&bytes, &native()).unwrap();
        assert_eq!(*again.value(), array);
    }
}

#[test]
fn special_floats_keep_their_bits() {
    let bits = [0x7FC0_0001, 0xFFFF_FFFF, 0x7F80_0000, 0x8000_0000, 0x0000_0001];
    let bytes = Param::new(bits.map(f32::from_bits)).save_bytes(&native()).unwrap();
    let again = Param::new([0.0f32; 5]).load_bytes(&bytes, &native()).unwrap();
    assert_eq!(again.value().map(f32::to_bits), bits);
}

#[test]
fn unusual_shapes_round_trip() {
    let dynamic = |shape: &[usize]| Param::new(ArrayD::<f32>::ones(IxDyn(shape)));
    for shape in [&[][..], &[0], &[3, 0, 2], &[1, 1, 1, 1, 1, 1, 1, 2]] {
        let bytes = dynamic(shape).save_bytes(&native()).unwrap();
        let zeros = Param::new(ArrayD::<f32>::zeros(IxDyn(shape)));
        assert!(zeros.load_bytes(&bytes, &native()).unwrap() == dynamic(shape), "{shape:?}");
    }
    let nothing: Vec<Param<f32>> = Vec::new();
    let bytes = nothing.save_bytes(&native()).unwrap();
    assert_eq!(load(&bytes), Record::new());
}

#[test]
fn metadata_of_record_and_recorder_are_saved_together() {
    let mut record = Record::new();
    record.insert_metadata("a", "of the record");
    assert_eq!(record.insert_metadata("b", "of the record"), None);
    let recorder = native().metadata("b", "of the recorder").metadata("c", "");
    let again = load(&record.save_bytes(&recorder).unwrap());
    let pairs: Vec<_> = again.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("a", "of the record"), ("b", "of the recorder"), ("c", "")]);
}

#[test]
fn states_and_tensors_may_share_a_path() {
    let mut record = Record::from_iter([("x", Tensor::from_values(&[], vec![1.0]).unwrap())]);
    let state =
        |data: &[u8]| RecordState { id: "x".into(), kind: "test".into(), data: data.into() };
    assert_eq!(record.insert_state(state(&[1])), None);
    assert_eq!(record.insert_state(state(&[2])), Some(state(&[1])));
    assert_eq!(load(&record.save_bytes(&native()).unwrap()).states(), [state(&[2])]);
}

/// A quadratic search for names would take minutes here.
#[test]
fn records_of_many_tensors_and_states_round_trip() {
    let tensor = Tensor::from_values(&[], vec![1.0]).unwrap();
    let mut record: Record = (0..50_000).map(|i| (i.to_string(), tensor.clone())).collect();
    for i in 0..50_000 {
        let state = RecordState { id: i.to_string().into(), kind: "test".into(), data: vec![1] };
        record.insert_state(state);
    }
    let bytes = record.save_bytes(&native()).unwrap();
    let again = load(&bytes);
    assert!(again == record);
    assert!(Record::from_module(&again).unwrap() == record);
    let Err(RecordError::Differences(found)) = untrained().load_record(again) else {
        panic!("a record of another model")
    };
    assert_eq!(found.len(), 100_000 + untrained().params().len());
}

#[test]
fn a_record_is_a_model_without_types() {
    struct Names(Vec<String>);
    impl ModuleVisitor for Names {
        fn visit_float(&mut self, id: ParamId, param: ParamView<'_>) {
            self.0.push(format!("{id}{:?}", param.shape()));
        }
    }
    struct Negate;
    impl ModuleMapper for Negate {
        fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
            let shape = tensor.shape().to_vec();
            Tensor::from_values(&shape, tensor.into_values().iter().map(|v| -v).collect()).unwrap()
        }
    }
    let record = load(&trained().save_bytes(&native()).unwrap());
    let mut names = Names(Vec::new());
    record.visit(&mut names);
    assert_eq!(names.0, ["0.fc1[7, 13]", "0.fc2[3, 7]", "1.0[7]", "1.1[3]"]);
    assert_eq!(record.num_params(), trained().num_params());

    let quantized = record.clone().quantize_weights(quantizer(SCHEMES[0])).unwrap();
    let bytes = quantized.save_bytes(&native()).unwrap();
    let typed = trained().quantize_weights(quantizer(SCHEMES[0])).unwrap();
    assert!(untrained().load_bytes(&bytes, &native()).unwrap() == typed);

    let negated = record.clone().map(&mut Negate).map(&mut Negate);
    assert_eq!(negated, record);
    assert!(untrained().load_record(record).unwrap() == trained());
}

#[test]
fn records_are_collections_in_order() {
    let tensor = |value| Tensor::from_values(&[], vec![value]).unwrap();
    let mut record = Record::from_iter([("b", tensor(1.0)), ("a", tensor(2.0))]);
    assert!(!record.is_empty() && record.len() == 2);
    assert_eq!(record.insert("b", tensor(3.0)), Some(tensor(1.0)));
    assert_eq!(record.get("b"), Some(&tensor(3.0)));
    assert_eq!(record.get("c"), None);
    let renamed: Record =
        record.into_iter().map(|(id, tensor)| (format!("model.{id}"), tensor)).collect();
    let mut names = Vec::new();
    for (id, _) in &renamed {
        names.push(id.as_str());
    }
    assert_eq!(renamed.iter().len(), 2);
    assert_eq!(renamed.iter().next_back().unwrap().0, "model.a");
    assert_eq!(names, ["model.b", "model.a"]);
    assert_ne!(renamed, Record::from_iter([("model.a", tensor(2.0)), ("model.b", tensor(3.0))]));
}

#[test]
fn all_differences_are_reported_at_once() {
    let tensor = |shape: &[usize]| Tensor::from_values(shape, vec![0.0; shape.iter().product()]);
    let mut record = Record::new();
    record.insert("0.fc1", tensor(&[13, 7]).unwrap());
    record.insert("0.fc3", tensor(&[2]).unwrap());
    record.insert("1.0", tensor(&[7, 1]).unwrap());
    record.insert("1.1", tensor(&[3]).unwrap());
    record.insert_state(RecordState { id: "act".into(), kind: "histogram".into(), data: vec![] });
    let Err(RecordError::Differences(found)) = untrained().load_record(record) else {
        panic!("a record of another model")
    };
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "0.fc1: shape [13, 7] in the record, but [7, 13] in the model",
            "0.fc2: missing in the record; shape [3, 7]",
            "1.0: shape [7, 1] in the record, but [7] in the model",
            "0.fc3: not a parameter of the model; shape [2]",
            "act: no module of the model loads the state of kind `histogram`",
        ]
    );
    assert!(matches!(&found[0], Difference::Shape { .. }) && *found[0].id() == "0.fc1");
    let error = RecordError::Differences(found).to_string();
    assert!(error.starts_with("the record does not fit the model:\n  0.fc1: shape"), "{error}");
}

/// A storage that rejects 0.
#[derive(Clone)]
struct NonZero(f32);

impl FloatTensor for NonZero {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> std::borrow::Cow<'_, [usize]> {
        vec![].into()
    }

    fn values(&self) -> std::borrow::Cow<'_, [f32]> {
        vec![self.0].into()
    }

    fn from_values(_: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        match values[0] {
            0.0 => Err(TensorError::Storage("zero".into())),
            value => Ok(Self(value)),
        }
    }
}

#[test]
fn a_storage_that_rejects_a_tensor_is_a_difference() {
    let bytes = vec![Param::new(0.0f32), Param::new(0.0), Param::new(2.0)].save_bytes(&native());
    let model = [1.0, 1.0, 1.0].map(|value| Param::new(NonZero(value)));
    let error = model.load_bytes(&bytes.unwrap(), &native()).err().unwrap();
    let RecordError::Differences(found) = &error else { panic!("{error}") };
    assert!(matches!(found[..], [Difference::Storage { .. }, Difference::Storage { .. }]));
    assert!(error.to_string().ends_with("\n  0: zero\n  1: zero"), "{error}");
}

mod properties {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use quant::QuantizationType;
    use quant::scheme::{Axis, Block, Granularity, Mapping};
    use quant::tensor::QuantizedTensor;

    use super::*;

    type Nested = BTreeMap<String, Vec<Param<ArrayD<f32>>>>;

    fn array() -> impl Strategy<Value = ArrayD<f32>> {
        vec(0usize..6, 0..4).prop_flat_map(|shape| {
            let len: usize = shape.iter().product();
            // Wide enough for f32, narrow enough for half-precision scales of any block.
            let value = prop_oneof![Just(0.0f32), -100.0f32..100.0, 1.0f32..2.0];
            vec(value, len).prop_map(move |values| {
                ArrayD::from_shape_vec(IxDyn(&shape), values).expect("as many as the shape has")
            })
        })
    }

    fn model() -> impl Strategy<Value = Nested> {
        btree_map("[a-zA-Zä_]{1,8}", vec(array().prop_map(Param::new), 0..4), 0..4)
    }

    fn scheme() -> impl Strategy<Value = QuantizationScheme> {
        let ty = prop::sample::select(QuantizationType::ALL.to_vec());
        let mapping = prop::sample::select(Mapping::ALL.to_vec());
        let granularity = prop_oneof![
            Just(Granularity::PerTensor),
            prop::sample::select(vec![0, 1, -1, -2])
                .prop_map(|a| Granularity::PerChannel(Axis::new(a))),
            (1u32..9).prop_map(|len| Granularity::PerBlock(Block::new(len).expect("not 0"))),
        ];
        (ty, mapping, granularity).prop_map(|(t, m, g)| QuantizationScheme::new(t, m, g))
    }

    fn zeroed(model: &Nested) -> Nested {
        let zeros = |param: &Param<ArrayD<f32>>| Param::new(ArrayD::zeros(IxDyn(&param.shape())));
        let list = |list: &Vec<_>| list.iter().map(zeros).collect();
        model.iter().map(|(name, own)| (name.clone(), list(own))).collect()
    }

    /// Whether the values come back within half a step and the last place. A code at the edge of
    /// its range may have been saturated, by as much as rounding moved the zero point.
    fn near(values: &[f32], tensor: &QuantizedTensor) -> bool {
        let (qmin, qmax) = tensor.scheme().grid().code_range();
        let (codes, again) = (tensor.codes(), tensor.dequantize());
        (0..values.len()).all(|i| {
            let group = tensor.groups().group_of(i);
            let scale = f64::from(tensor.params(group).scale()).abs();
            let minimum = f64::from(tensor.minimums().get(group).copied().unwrap_or(0.0));
            let (x, y) = (f64::from(values[i]), f64::from(again[i]));
            let ulp = x.abs().max(y.abs()).max(minimum.abs()) * f64::from(f32::EPSILON);
            let edge = [qmin, qmax].contains(&i32::from(codes[i]));
            let slack = match tensor.scheme().mapping() {
                // The side of the lesser magnitude ends one step early.
                Mapping::FullRange if edge => scale * 0.501,
                _ if edge => scale / 1024.0,
                _ => 0.0,
            };
            (x - y).abs() <= scale / 2.0 + ulp + slack
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nested_models_survive_quantizing_saving_loading(model in model(), scheme in scheme()) {
            let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme };
            let Ok(quantized) = model.clone().quantize_weights(quantizer) else { return Ok(()) };
            let bytes = quantized.save_bytes(&native()).unwrap();
            let loaded = zeroed(&model).load_bytes(&bytes, &native()).unwrap();
            prop_assert!(loaded == quantized);
            for (name, params) in &model {
                for (before, after) in params.iter().zip(&loaded[name]) {
                    let values: Vec<f32> = before.value().iter().copied().collect();
                    match after.quantized() {
                        Some(tensor) => prop_assert!(near(&values, tensor)),
                        None => prop_assert_eq!(&*before.value(), &*after.value()),
                    }
                }
            }
            prop_assert!(loaded.dequantize() == quantized.dequantize());
        }
    }
}
