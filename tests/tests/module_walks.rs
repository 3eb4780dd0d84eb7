//! Visitors and mappers: every parameter, once, in order, under its path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;

use ndarray::Array2;
use quant::module::{MapError, ModuleVisitor, ParamView, TryModuleMapper};
use quant::quantize::quantize_values;
use quant::tensor::TensorError;
use quant::{
    FloatTensor, MinMaxCalibration, Module, ModuleMapper, Param, ParamId, QuantizationScheme,
    QuantizationType, Quantizer, Tensor,
};
use tests::errors::chain;

#[derive(Clone, Debug, PartialEq, Module)]
struct Dense {
    weight: Param<[[f32; 2]; 2]>,
    bias: Param<[f32; 2]>,
}

#[derive(Clone, Debug, PartialEq, Module)]
struct Net {
    layers: Vec<Dense>,
    head: Option<Box<Dense>>,
    scale: Param<f32>,
    named: BTreeMap<String, Param<Vec<f32>>>,
    pair: (Param<[f32; 1]>, u32),
    none: Option<Dense>,
}

fn dense(start: f32) -> Dense {
    Dense {
        weight: Param::new([[start, start + 1.0], [start + 2.0, start + 3.0]]),
        bias: Param::new([start, -start]),
    }
}

fn net() -> Net {
    Net {
        layers: vec![dense(1.0), dense(2.0)],
        head: Some(Box::new(dense(3.0))),
        scale: Param::new(0.5),
        named: [("b".into(), Param::new(vec![7.0])), ("a".into(), Param::new(vec![]))].into(),
        pair: (Param::new([9.0]), 4),
        none: None,
    }
}

const PATHS: [&str; 10] = [
    "layers.0.weight",
    "layers.0.bias",
    "layers.1.weight",
    "layers.1.bias",
    "head.weight",
    "head.bias",
    "scale",
    "named.a",
    "named.b",
    "pair.0",
];

fn quantizer() -> Quantizer<MinMaxCalibration> {
    let scheme = QuantizationScheme::PerTensorAffine(QuantizationType::QInt8);
    Quantizer { calibration: MinMaxCalibration {}, scheme }
}

/// Notes what it sees.
#[derive(Default)]
struct Seen(Vec<(String, Vec<usize>, bool)>);

impl ModuleVisitor for Seen {
    fn visit_float(&mut self, id: ParamId, param: ParamView<'_>) {
        self.0.push((id.to_string(), param.shape().to_vec(), param.is_quantized()));
    }
}

#[test]
fn a_visitor_sees_each_parameter_once_in_order() {
    let mut seen = Seen::default();
    let model = net();
    model.visit(&mut seen);
    assert_eq!(seen.0.iter().map(|(path, ..)| path).collect::<Vec<_>>(), PATHS);
    assert_eq!(seen.0[0].1, [2, 2]);
    assert_eq!(model.num_params(), 3 * 6 + 1 + 1 + 1);
    let infos = model.params();
    assert_eq!(infos.iter().map(|info| info.id.as_str()).collect::<Vec<_>>(), PATHS);
    assert!(infos.iter().all(|info| info.scheme.is_none()));
    assert_eq!(infos.iter().map(quant::module::ParamInfo::element_count).sum::<usize>(), 21);
}

#[test]
fn a_visitor_sees_which_parameters_are_quantized() {
    let model = net().quantize_weights(quantizer()).unwrap();
    let mut seen = Seen::default();
    model.visit(&mut seen);
    let quantized: Vec<_> = seen.0.iter().filter(|row| row.2).map(|row| &row.0).collect();
    assert_eq!(quantized, ["layers.0.weight", "layers.1.weight", "head.weight"]);
    assert_eq!(model.params()[0].scheme, Some(quantizer().scheme));
    assert_eq!(model.num_params(), 21);
}

#[test]
fn a_view_gives_values_and_copies() {
    struct Copies(Vec<Tensor>);
    impl ModuleVisitor for Copies {
        fn visit_float(&mut self, _id: ParamId, param: ParamView<'_>) {
            assert_eq!(param.values(), param.to_tensor().values());
            assert_eq!(param.quantized().is_some(), param.to_tensor().is_quantized());
            self.0.push(param.to_tensor());
        }
    }
    let mut copies = Copies(vec![]);
    let model = net().quantize_weights(quantizer()).unwrap();
    model.visit(&mut copies);
    assert_eq!(copies.0[0].quantized(), model.layers[0].weight.quantized());
    assert_eq!(copies.0[1].values(), [1.0, -1.0].as_slice());
}

/// Replaces each parameter by what a function makes of it.
struct With<F>(F);

impl<F: FnMut(ParamId, Tensor) -> Tensor> ModuleMapper for With<F> {
    fn map_float(&mut self, id: ParamId, tensor: Tensor) -> Tensor {
        (self.0)(id, tensor)
    }
}

impl<F: FnMut(ParamId, Tensor) -> Result<Tensor, std::fmt::Error>> TryModuleMapper for With<F> {
    type Error = std::fmt::Error;

    fn try_map_float(&mut self, id: ParamId, tensor: Tensor) -> Result<Tensor, std::fmt::Error> {
        (self.0)(id, tensor)
    }
}

fn shifted(tensor: Tensor) -> Tensor {
    let shape = tensor.shape().to_vec();
    let values = tensor.into_values().into_iter().map(|x| x + 1.0).collect();
    Tensor::from_values(&shape, values).unwrap()
}

#[test]
fn a_mapper_replaces_each_parameter_in_order() {
    let mut paths = Vec::new();
    let model = net().map(&mut With(|id: ParamId, tensor| {
        paths.push(id.to_string());
        shifted(tensor)
    }));
    assert_eq!(paths, PATHS);
    assert_eq!(model.layers[1].bias, Param::new([3.0, -1.0]));
    assert_eq!(model.scale, Param::new(1.5));
    assert_eq!(model.pair, (Param::new([10.0]), 4));
}

#[test]
fn a_mapper_that_gives_back_what_it_got_changes_nothing() {
    for model in [net(), net().quantize_weights(quantizer()).unwrap()] {
        assert_eq!(model.clone().map(&mut With(|_: ParamId, tensor| tensor)), model);
    }
}

#[test]
fn values_move_through_a_mapper_without_a_copy() {
    let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let before = values.as_ptr();
    let param = Param::new(Array2::from_shape_vec((10, 100), values).unwrap());
    let param = param.map(&mut With(|_: ParamId, tensor: Tensor| {
        let shape = tensor.shape().to_vec();
        Tensor::from_values(&shape, tensor.into_values()).unwrap()
    }));
    assert_eq!(param.value().as_ptr(), before);
}

#[test]
fn a_mapper_may_quantize() {
    let scheme = quantizer().scheme;
    let model = net().map(&mut With(|_: ParamId, tensor: Tensor| {
        let values = tensor.values();
        quantize_values(tensor.shape(), &values, scheme, &MinMaxCalibration {}).unwrap().into()
    }));
    assert!(model.params().iter().all(|info| info.scheme == Some(scheme)));
    assert_eq!(model.dequantize().params(), net().params());
}

#[test]
#[should_panic(expected = "layers.0.weight: a storage of shape [2, 2] cannot hold shape [4]")]
fn map_panics_when_the_mapper_returns_another_rank() {
    let _ = net().map(&mut With(|_: ParamId, tensor: Tensor| {
        Tensor::from_values(&[tensor.element_count()], tensor.into_values()).unwrap()
    }));
}

#[test]
fn try_map_errs_when_the_mapper_returns_another_shape_float_or_quantized() {
    let flat = Tensor::from_values(&[4], vec![0.0; 4]).unwrap();
    let scheme = quantizer().scheme;
    let quantized = quantize_values(&[4], &[0.0; 4], scheme, &MinMaxCalibration {}).unwrap();
    for other in [flat, quantized.into()] {
        let mut calls = 0;
        let error = net()
            .try_map(&mut With(|id: ParamId, tensor| {
                calls += 1;
                Ok(if id == "layers.1.weight" { other.clone() } else { tensor })
            }))
            .unwrap_err();
        let source = TensorError::shape(&[2, 2], &[4]);
        assert_eq!(error, MapError::Tensor { id: "layers.1.weight".into(), source });
        assert_eq!(
            chain(&error),
            "layers.1.weight: the mapped tensor does not fit: a storage of shape [2, 2] cannot hold shape [4]"
        );
        assert!(error.source().unwrap().is::<TensorError>());
        assert_eq!(calls, 3, "nothing is mapped after the error");
    }
}

#[test]
fn a_mappers_own_error_arrives_with_the_path() {
    #[derive(Debug, PartialEq)]
    struct Stop;
    impl std::fmt::Display for Stop {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("stop")
        }
    }
    impl Error for Stop {}
    struct Stopping;
    impl TryModuleMapper for Stopping {
        type Error = Stop;
        fn try_map_float(&mut self, id: ParamId, tensor: Tensor) -> Result<Tensor, Stop> {
            if id == "scale" { Err(Stop) } else { Ok(tensor) }
        }
    }
    let error = net().try_map(&mut Stopping).unwrap_err();
    assert_eq!(error, MapError::Mapper { id: "scale".into(), source: Stop });
    assert_eq!(chain(&error), "scale: the mapper failed: stop");
    assert!(error.source().unwrap().is::<Stop>());
}

/// A picture in columns, whose row-major values are no slice of it; it remembers its device.
#[derive(Clone, Debug, PartialEq)]
struct Columns {
    columns: Vec<Vec<f32>>,
    device: u8,
}

impl FloatTensor for Columns {
    type Device = u8;

    fn device(&self) -> u8 {
        self.device
    }

    fn shape(&self) -> Cow<'_, [usize]> {
        vec![self.columns[0].len(), self.columns.len()].into()
    }

    fn values(&self) -> Cow<'_, [f32]> {
        let rows = 0..self.columns[0].len();
        rows.flat_map(|row| self.columns.iter().map(move |column| column[row])).collect()
    }

    fn from_values(shape: &[usize], values: Vec<f32>, device: &u8) -> Result<Self, TensorError> {
        let &[rows, columns] = shape else { return Err(TensorError::rank(2, shape)) };
        let column = |c| (0..rows).map(|r| values[r * columns + c]).collect();
        Ok(Self { columns: (0..columns).map(column).collect(), device: *device })
    }
}

#[test]
fn a_storage_of_the_users_own_goes_everywhere_and_keeps_its_device() {
    let columns =
        || Columns { columns: vec![vec![1.0, 2.0, 3.0], vec![-4.0, 5.0, 6.0]], device: 7 };
    let param = Param::new(columns());
    assert_eq!(param.shape(), [3usize, 2].as_slice());
    let mapped = param.clone().map(&mut With(|_: ParamId, tensor| shifted(tensor)));
    assert_eq!(mapped.value().columns, [[2.0, 3.0, 4.0], [-3.0, 6.0, 7.0]]);
    assert_eq!(mapped.value().device, 7);

    let quantized = param.quantize_weights(quantizer()).unwrap();
    let expected = [1.0, -4.0, 2.0, 5.0, 3.0, 6.0];
    let tensor =
        quantize_values(&[3, 2], &expected, quantizer().scheme, &MinMaxCalibration {}).unwrap();
    assert_eq!(quantized.quantized(), Some(&tensor));
    let back = quantized.dequantize();
    assert_eq!(back.value().device, 7);
    assert_eq!(back.value().values(), tensor.dequantize());
}

#[test]
fn containers_give_their_children_paths() {
    let model = (
        [Param::new([1.0f32]), Param::new([2.0])],
        Some(vec![Box::new(Param::new(3.0f32))]),
        (7u8, "text", String::from("text"), 'c', true, std::marker::PhantomData::<f32>),
    );
    let paths: Vec<_> = model.params().into_iter().map(|info| info.id.to_string()).collect();
    assert_eq!(paths, ["0.0", "0.1", "1.0"]);
    assert_eq!(().num_params(), 0);
    assert_eq!(Param::new(1.0f32).params()[0].id, "");
}
