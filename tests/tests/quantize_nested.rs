//! Random nested models survive quantize → save → load → dequantize, by every scheme.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayD, IxDyn};
use proptest::prelude::*;
use quant::module::{Directive, ModuleVisitor, ParamView};
use quant::quantize::{Candidate, Decision, Planner, Reason};
use quant::scheme::Groups;
use quant::scheme::{Axis, Block, Granularity, Mapping};
use quant::tensor::QuantizedTensor;
use quant::{
    BincodeRecorder, MinMaxCalibration, Module, Param, ParamId, QuantizationScheme,
    QuantizationType, QuantizeError,
};

#[derive(Clone, Debug, Module)]
struct Net {
    layers: Vec<Layer>,
    extra: Option<Box<Net>>,
    table: BTreeMap<String, Param<ArrayD<f32>>>,
    pair: (Param<[[f32; 3]; 2]>, Marker),
    flat: Param<Vec<f32>>,
    #[module(keep)]
    kept: Param<Array2<f32>>,
    #[module(skip)]
    note: String,
    depth: u32,
}

#[derive(Clone, Debug, Module)]
enum Layer {
    Identity,
    Scale(Param<f32>),
    Dense { weight: Param<Array2<f32>>, bias: Param<Array1<f32>> },
    Pair(Param<Array2<f32>>, [Param<[f32; 2]>; 2]),
}

#[derive(Clone, Debug, Module)]
struct Marker;

/// Zeros and values of several magnitudes, none too small for an f16 scale.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![8 => -4.0f32..4.0, 1 => -0.05f32..0.05, 1 => -400.0f32..400.0, 1 => Just(0.0)]
        .prop_map(|x: f32| if x.abs() < 0.02 { 0.0 } else { x })
}

fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(value(), len)
}

fn matrix() -> impl Strategy<Value = Param<Array2<f32>>> {
    (0usize..5, 0usize..40, any::<bool>()).prop_flat_map(|(rows, columns, transposed)| {
        values(rows * columns).prop_map(move |values| {
            let array = Array2::from_shape_vec((rows, columns), values).unwrap();
            Param::new(if transposed { array.reversed_axes() } else { array })
        })
    })
}

fn any_rank() -> impl Strategy<Value = Param<ArrayD<f32>>> {
    prop::collection::vec(0usize..5, 0..5).prop_flat_map(|shape| {
        values(shape.iter().product()).prop_map(move |values| {
            Param::new(ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap())
        })
    })
}

fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        Just(Layer::Identity),
        value().prop_map(|x| Layer::Scale(Param::new(x))),
        (matrix(), values(3)).prop_map(|(weight, bias)| Layer::Dense {
            weight,
            bias: Param::new(Array1::from(bias))
        }),
        (matrix(), prop::array::uniform2(prop::array::uniform2(value())))
            .prop_map(|(matrix, rows)| Layer::Pair(matrix, rows.map(Param::new))),
    ]
}

fn net() -> impl Strategy<Value = Net> {
    let parts = (
        prop::collection::vec(layer(), 0..4),
        prop::collection::btree_map("[a-z]{1,4}", any_rank(), 0..4),
        prop::array::uniform2(prop::array::uniform3(value())),
        (0usize..70).prop_flat_map(values),
        matrix(),
    );
    let leaf = parts.prop_map(|(layers, table, pair, flat, kept)| Net {
        layers,
        extra: None,
        table,
        pair: (Param::new(pair), Marker),
        flat: Param::new(flat),
        kept,
        note: "skipped".into(),
        depth: 0,
    });
    let leaf = leaf.boxed();
    (leaf.clone(), prop::option::of(leaf)).prop_map(|(net, extra)| Net {
        extra: extra.map(Box::new),
        depth: 1,
        ..net
    })
}

/// Every parameter with its path.
#[derive(Default)]
struct All(Vec<(String, Vec<usize>, Vec<f32>, Codes)>);

type Codes = Option<QuantizedTensor>;

impl ModuleVisitor for All {
    fn visit_float(&mut self, id: ParamId, param: ParamView<'_>) {
        let (shape, values) = (param.shape().to_vec(), param.values().to_vec());
        self.0.push((id.to_string(), shape, values, param.quantized().cloned()));
    }
}

fn all(model: &impl Module) -> All {
    let mut all = All::default();
    model.visit(&mut all);
    all
}

/// Quantizes whatever has the axis, the rest of the parameters and what is to be kept not.
struct Wherever(QuantizationScheme);

impl Planner for Wherever {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        let decide = |candidate: &Candidate| {
            let fits = Groups::new(&candidate.info.shape, self.0.granularity()).is_ok();
            if fits && candidate.directive != Some(Directive::Keep) {
                Decision::quantize(self.0, MinMaxCalibration {}, Reason::NoRule)
            } else {
                Decision::keep(Reason::NoRule)
            }
        };
        Ok(candidates.iter().map(decide).collect())
    }
}

fn check(model: &Net, scheme: QuantizationScheme) {
    let before = all(model);
    let quantized = model.clone().quantize_weights(Wherever(scheme)).unwrap();
    let recorder = BincodeRecorder::default();
    let bytes = quantized.save_bytes(&recorder).unwrap();
    let loaded = model.clone().load_bytes(&bytes, &recorder).unwrap();
    assert_eq!((&loaded.note, loaded.depth), (&model.note, model.depth));
    let codes = all(&loaded);
    assert_eq!(
        codes.0.iter().map(|row| &row.3).collect::<Vec<_>>(),
        all(&quantized).0.iter().map(|row| &row.3).collect::<Vec<_>>()
    );
    let after = all(&loaded.dequantize());
    assert_eq!(after.0.len(), before.0.len());
    for ((before, after), codes) in before.0.iter().zip(&after.0).zip(&codes.0) {
        assert_eq!((&before.0, &before.1, &after.3), (&after.0, &after.1, &None));
        match &codes.3 {
            None => assert_eq!(before.2, after.2, "{}", before.0),
            Some(tensor) => {
                assert_eq!(tensor.scheme(), scheme);
                let groups = Groups::new(&before.1, scheme.granularity()).unwrap();
                for (at, (x, y)) in before.2.iter().zip(&after.2).enumerate() {
                    let group = groups.group_of(at);
                    let minimum = tensor.minimums().get(group).copied().unwrap_or(0.0);
                    let scale = tensor.params(group).scale().abs();
                    check_error([*x, *y], scale, minimum, scheme, &before.0);
                }
            }
        }
    }
}

/// `|x - x̂| ≤ s / 2 + 1 ulp`; an f16 scale that was rounded down lets the largest values saturate, and
/// so does the one code that a full range lacks on one side.
fn check_error([x, y]: [f32; 2], scale: f32, minimum: f32, scheme: QuantizationScheme, path: &str) {
    let ulp = f32::EPSILON * x.abs().max(y.abs()).max(minimum.abs());
    let saturated = match scheme.scale_type() {
        quant::scheme::ScaleType::F32 => 0.0,
        quant::scheme::ScaleType::F16 => (x.abs() + 3.0 * minimum.abs()) / 2048.0,
        _ => unreachable!(),
    };
    let error = (f64::from(x) - f64::from(y)).abs();
    let half = if scheme.mapping() == Mapping::FullRange { 1.001 } else { 0.5 };
    let allowed = f64::from(scale) * half + f64::from(ulp + saturated);
    assert!(error <= allowed, "{path} by {scheme}: {x} became {y}, scale {scale}");
}

fn schemes() -> impl Strategy<Value = QuantizationScheme> {
    let granularity = prop_oneof![
        Just(Granularity::PerTensor),
        (-4i32..4).prop_map(|axis| Granularity::PerChannel(Axis::new(axis))),
        (1u32..40, any::<bool>()).prop_map(|(len, f16)| {
            let block = Block::new(len).unwrap();
            Granularity::PerBlock(if f16 { block.with_f16_scales() } else { block })
        }),
    ];
    (
        prop::sample::select(QuantizationType::ALL.to_vec()),
        prop::sample::select(Mapping::ALL.to_vec()),
        granularity,
    )
        .prop_map(|(ty, mapping, granularity)| QuantizationScheme::new(ty, mapping, granularity))
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn nested_models_survive_within_half_a_step(model in net(), scheme in schemes()) {
        check(&model, scheme);
    }
}

proptest! {
    #![proptest_config(config(8))]

    /// Whatever the random choice above comes to, each of these has been there.
    #[test]
    fn every_scheme_is_survived(model in net()) {
        let blocks = [1, 7, 32].map(|len| Block::new(len).unwrap());
        let granularities = [Granularity::PerTensor]
            .into_iter()
            .chain((-4..4).map(|axis| Granularity::PerChannel(Axis::new(axis))))
            .chain(blocks.map(Granularity::PerBlock))
            .chain(blocks.map(|block| Granularity::PerBlock(block.with_f16_scales())));
        for granularity in granularities {
            for ty in QuantizationType::ALL {
                for mapping in Mapping::ALL {
                    check(&model, QuantizationScheme::new(ty, mapping, granularity));
                }
            }
        }
    }
}
