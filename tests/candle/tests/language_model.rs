//! A language model of the user's own, generic over its tensors: trained over candle, and run in integers
//! over arrays.

use candle_core::{Tensor, Var};
use candle_tests::{LEARNED, RANGES, array_bits, bits, random, recipe, values, var};
use ndarray::{ArrayD, ArrayView1, IxDyn};
use quant::activation::ActivationQuantizer;
use quant::kernel::scheme::KeyValueScheme;
use quant::kernel::{KeyValueCache, KeyValueShape, Rope, RopeAngles, RopeOptions};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, FloatTensor, Module};
use quant_nn::training::{Adam, Qat, QatOptions, cross_entropy};
use quant_nn::{Backend, Embedding, ForwardError, Linear, RmsNorm};

const VOCABULARY: usize = 7;
const HIDDEN: usize = 32;
const INNER: usize = 64;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const HEAD: usize = HIDDEN / HEADS;

#[derive(Clone, Debug, Module)]
struct Decoder<T: FloatTensor> {
    /// Rows of the embedding, and outputs of the head.
    tokens: Embedding<T>,
    layers: Vec<Layer<T>>,
    norm: RmsNorm<T>,
    head_input: ActivationQuantizer,
    #[module(skip)]
    rope: Rope,
}

#[derive(Clone, Debug, Module)]
struct Layer<T: FloatTensor> {
    attention_norm: RmsNorm<T>,
    query: Linear<T>,
    key: Linear<T>,
    value: Linear<T>,
    attention: Linear<T>,
    norm: RmsNorm<T>,
    gate: Linear<T>,
    up: Linear<T>,
    down: Linear<T>,
}

/// Makes each parameter of a model.
type Make<'a, T> = &'a dyn Fn(&[usize], u32) -> T;

impl<T: FloatTensor> Decoder<T> {
    fn new(make: Make<'_, T>) -> Self {
        Self {
            tokens: Embedding::new(make(&[VOCABULARY, HIDDEN], 1)).unwrap(),
            layers: (1..3).map(|layer| Layer::new(make, 10 * layer)).collect(),
            norm: RmsNorm::new(make(&[HIDDEN], 2), 1e-5),
            head_input: ActivationQuantizer::new(),
            rope: Rope::new(RopeOptions::new(HEAD)).unwrap(),
        }
    }

    fn angles(&self, positions: &[u32]) -> RopeAngles {
        let mut angles = RopeAngles::default();
        self.rope.angles(positions, &mut angles).unwrap();
        angles
    }
}

impl<T: FloatTensor> Layer<T> {
    fn new(make: Make<'_, T>, seed: u32) -> Self {
        let linear =
            |inputs, outputs, own| Linear::new(make(&[outputs, inputs], seed + own), None).unwrap();
        let keys = KEY_HEADS * HEAD;
        Self {
            attention_norm: RmsNorm::new(make(&[HIDDEN], seed), 1e-5),
            query: linear(HIDDEN, HIDDEN, 1),
            key: linear(HIDDEN, keys, 2),
            value: linear(HIDDEN, keys, 3),
            attention: linear(HIDDEN, HIDDEN, 4),
            norm: RmsNorm::new(make(&[HIDDEN], seed + 5), 1e-5),
            gate: linear(HIDDEN, INNER, 6),
            up: linear(HIDDEN, INNER, 7),
            down: linear(INNER, HIDDEN, 8),
        }
    }
}

impl<T: Backend> Decoder<T> {
    /// The logits of all tokens of whole sequences, which follow each other.
    fn forward(&self, tokens: &[u32], lengths: &[usize]) -> Result<T::Activation, ForwardError> {
        let positions = lengths.iter().flat_map(|&length| 0..length as u32);
        let angles = self.angles(&positions.collect::<Vec<_>>());
        let mut x = self.tokens.forward(tokens)?;
        for layer in &self.layers {
            x = layer.forward(x, &self.rope, &angles, lengths)?;
        }
        T::linear(&self.norm.forward(&x)?, &self.tokens.weight, None, &self.head_input)
    }
}

impl<T: Backend> Layer<T> {
    fn forward(
        &self,
        x: T::Activation,
        rope: &Rope,
        angles: &RopeAngles,
        lengths: &[usize],
    ) -> Result<T::Activation, ForwardError> {
        let normed = self.attention_norm.forward(&x)?;
        let q = T::rope(self.query.forward(&normed)?, HEADS, rope, angles)?;
        let k = T::rope(self.key.forward(&normed)?, KEY_HEADS, rope, angles)?;
        let v = self.value.forward(&normed)?;
        let attended = T::causal_attention([&q, &k, &v], HEADS, lengths)?;
        let x = T::add(x, &self.attention.forward(&attended)?)?;

        let normed = self.norm.forward(&x)?;
        let gated = T::swiglu(self.gate.forward(&normed)?, &self.up.forward(&normed)?)?;
        T::add(x, &self.down.forward(&gated)?)
    }
}

/// Over arrays, a sequence can also be continued: its keys and values are kept.
impl Decoder<ArrayD<f32>> {
    fn caches(&self, capacity: usize, scheme: KeyValueScheme) -> Vec<KeyValueCache> {
        let shape = KeyValueShape { heads: KEY_HEADS, head_dim: HEAD, capacity };
        self.layers.iter().map(|_| KeyValueCache::new(shape, scheme).unwrap()).collect()
    }

    fn next(&self, tokens: &[u32], caches: &mut [KeyValueCache]) -> ArrayD<f32> {
        let start = caches[0].len() as u32;
        let angles = self.angles(&(start..start + tokens.len() as u32).collect::<Vec<_>>());
        let mut x = self.tokens.forward(tokens).unwrap();
        let mut attended = ArrayD::zeros(IxDyn(&[0, 0]));
        for (layer, cache) in self.layers.iter().zip(caches) {
            let normed = layer.attention_norm.forward(&x).unwrap();
            let [mut q, mut k, v] = [&layer.query, &layer.key, &layer.value]
                .map(|layer| layer.forward(&normed).unwrap());
            quant_nn::rope(&mut q, HEADS, &self.rope, &angles).unwrap();
            quant_nn::rope(&mut k, KEY_HEADS, &self.rope, &angles).unwrap();
            let caches = [(tokens.len(), cache)];
            quant_nn::causal_attention_into([&q, &k, &v], HEADS, caches, &mut attended).unwrap();
            x += &layer.attention.forward(&attended).unwrap();
            let normed = layer.norm.forward(&x).unwrap();
            let mut gate = layer.gate.forward(&normed).unwrap();
            quant_nn::swiglu(&mut gate, &layer.up.forward(&normed).unwrap()).unwrap();
            x += &layer.down.forward(&gate).unwrap();
        }
        let normed = self.norm.forward(&x).unwrap();
        quant_nn::linear(&normed, &self.tokens.weight, None, &self.head_input).unwrap()
    }
}

/// Small weights; norms begin near 1.
fn parameter(shape: &[usize], seed: u32) -> Var {
    let values = var(shape, seed);
    let values = match shape {
        [_] => values.affine(0.1, 1.0),
        _ => values.affine(0.3, 0.0),
    };
    Var::from_tensor(&values.unwrap()).unwrap()
}

fn host() -> Decoder<ArrayD<f32>> {
    Decoder::new(&|shape, _| ArrayD::zeros(IxDyn(shape)))
}

/// Random tokens of sequences.
fn batch(seed: u32, lengths: &[usize]) -> Vec<u32> {
    let tokens = random(lengths.iter().sum(), seed);
    tokens.iter().map(|token| ((token + 1.0) * 1000.0) as u32 % VOCABULARY as u32).collect()
}

/// The token before each, or itself for the first one of a sequence: a model has to attend to it.
fn labels(tokens: &[u32], lengths: &[usize]) -> Vec<u32> {
    let mut labels = Vec::new();
    for &length in lengths {
        let start = labels.len();
        labels.extend((start..start + length).map(|at| tokens[start.max(at.saturating_sub(1))]));
    }
    labels
}

/// Tokens of the sequences of a batch.
const LENGTHS: [usize; 4] = [9, 1, 17, 25];

/// A model after some steps of training, with the loss before and after.
fn train(
    steps: u32,
    scheme: &str,
    inputs: ActivationScheme,
    options: QatOptions,
) -> (Qat<Decoder<Var>>, [f32; 2]) {
    let recipe = recipe(scheme, inputs);
    let mut qat = Qat::new(Decoder::new(&parameter), &recipe, options).unwrap();
    let mut adam = Adam::new(qat.model()).unwrap();
    let mut losses = Vec::new();
    for step in 0..steps {
        if step == steps / 4 {
            qat.enable_fake_quant().unwrap();
        } else if step == steps - 2 {
            qat.freeze().unwrap();
        }
        let tokens = batch(step, &LENGTHS);
        let logits = qat.train(|model| model.forward(&tokens, &LENGTHS)).unwrap();
        let loss = cross_entropy(&logits, &labels(&tokens, &LENGTHS)).unwrap();
        adam.step(qat.model(), &loss.backward().unwrap(), 0.01).unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
    }
    (qat, [losses[0], losses[losses.len() - 1]])
}

#[test]
fn a_model_in_training_and_the_same_model_in_integers_give_equal_bits() {
    let blocks: ActivationScheme = "dynamic-per-block-32-symmetric".parse().unwrap();
    for (scheme, inputs, options) in [
        ("per-block-symmetric-int4", blocks, LEARNED),
        ("per-channel-symmetric-int8", ActivationScheme::DYNAMIC, RANGES),
        ("per-channel-symmetric-int4", ActivationScheme::STATIC, LEARNED),
        ("per-block-symmetric-int4", ActivationScheme::Float, LEARNED),
    ] {
        let (qat, _) = train(8, scheme, inputs, options);
        let tokens = batch(99, &LENGTHS);
        let trained = bits(&qat.model().forward(&tokens, &LENGTHS).unwrap());
        let bytes = qat.export().unwrap().save_bytes(&BincodeRecorder::default()).unwrap();
        let converted = qat.convert().unwrap();
        assert_eq!(bits(&converted.forward(&tokens, &LENGTHS).unwrap()), trained, "{scheme}");

        let host = host().load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let y = pool.install(|| host.forward(&tokens, &LENGTHS)).unwrap();
            assert_eq!(array_bits(&y), trained, "{scheme} {inputs}, {threads} threads");
        }
        let (mut continued, mut rest) = (Vec::new(), &tokens[..]);
        for length in LENGTHS {
            let (sequence, after) = rest.split_at(length);
            let mut caches = host.caches(length, KeyValueScheme::F32);
            for token in sequence {
                continued.extend(array_bits(&host.next(&[*token], &mut caches)));
            }
            rest = after;
        }
        assert_eq!(continued, trained, "{scheme} {inputs}, token by token");
    }
}

#[test]
fn a_model_in_4_bits_learns_to_attend_to_the_token_before() {
    let dynamic = ActivationScheme::DYNAMIC;
    let (qat, [first, last]) = train(80, "per-channel-symmetric-int4", dynamic, LEARNED);
    assert!(last < 0.1 * first, "{first} {last}");
    let host = host().load_record(qat.export().unwrap()).unwrap();
    let tokens = batch(99, &[20]);
    for scheme in [KeyValueScheme::F32, KeyValueScheme::Int8] {
        let logits = host.next(&tokens, &mut host.caches(20, scheme));
        let most_likely: Vec<_> = logits.rows().into_iter().map(most_likely).collect();
        assert_eq!(most_likely, labels(&tokens, &[20]), "{scheme}");
    }
}

fn most_likely(logits: ArrayView1<'_, f32>) -> u32 {
    let token = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    token.unwrap() as u32
}

#[test]
fn every_parameter_of_a_model_gets_a_gradient() {
    let model = Decoder::new(&parameter);
    let tokens = batch(3, &LENGTHS);
    let logits: Tensor = model.forward(&tokens, &LENGTHS).unwrap();
    let gradients = cross_entropy(&logits, &labels(&tokens, &LENGTHS)).unwrap().backward().unwrap();
    struct Check<'a>(&'a candle_core::backprop::GradStore, usize);
    impl quant::module::ModuleVisitor for Check<'_> {
        fn visit_float(&mut self, id: quant::ParamId, param: quant::module::ParamView<'_>) {
            let gradient = self.0.get(param.downcast_ref::<Var>().unwrap());
            let gradient = values(gradient.unwrap_or_else(|| panic!("{id}")));
            assert!(gradient.iter().all(|value| value.is_finite()), "{id}");
            assert!(gradient.iter().any(|value| *value != 0.0), "{id}");
            self.1 += 1;
        }
    }
    let mut check = Check(&gradients, 0);
    model.visit(&mut check);
    assert_eq!(check.1, 2 + 2 * 9);
}
