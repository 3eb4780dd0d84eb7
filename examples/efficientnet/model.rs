//! The model, as its authors describe it.

use ndarray::{ArrayD, Axis, IxDyn};
use quant::Module;
use quant::channels::ChannelPair;
use quant_nn::{BatchNorm2d, ClippedRelu, Conv2d, Conv2dOptions, ConvNorm2d, ForwardError, Linear};

/// Rows and columns of a photograph.
const SIZE: usize = 224;

/// Added to variances.
const EPSILON: f32 = 1e-3;

/// Blocks that are alike: how many, the side of the kernel, the stride of the first, by how much the
/// channels are expanded, and the channels of the result.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// EfficientNet-Lite0.
#[derive(Clone, Debug, Module)]
pub struct EfficientNet {
    stem: ConvNorm2d,
    stem_relu: ClippedRelu,
    blocks: Vec<Block>,
    head: ConvNorm2d,
    head_relu: ClippedRelu,
    classifier: Linear,
}

#[derive(Clone, Debug, Module)]
struct Block {
    /// `None` where channels are not expanded.
    expand: Option<ConvNorm2d>,
    expand_relu: ClippedRelu,
    depthwise: ConvNorm2d,
    depthwise_relu: ClippedRelu,
    project: ConvNorm2d,
    /// Whether the input is added to the result.
    adds_input: bool,
}

impl EfficientNet {
    /// A model of the right shape, whose weights are 0.
    pub fn new() -> Self {
        let (mut blocks, mut channels, mut size) = (Vec::new(), 32, SIZE / 2);
        for (count, kernel, stride, expansion, outputs) in STAGES {
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                blocks.push(Block::new([channels, outputs], expansion, kernel, (stride, size)));
                (channels, size) = (outputs, size / stride);
            }
        }
        Self {
            stem: conv([3, 32], 3, same_padding(SIZE, 3, 2)),
            stem_relu: ClippedRelu::new(6.0),
            blocks,
            head_relu: ClippedRelu::new(6.0),
            head: conv([channels, 1280], 1, Conv2dOptions::new()),
            classifier: Linear::new(zeros(&[1000, 1280]), Some(zeros(&[1000])))
                .expect("as many biases as outputs"),
        }
    }

    /// The score of each class for each photograph: `[photographs, 3, 224, 224]` to `[photographs, 1000]`.
    ///
    /// # Errors
    /// What the layers refuse.
    pub fn forward(&self, photos: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let mut x = self.stem_relu.forward(self.stem.forward(photos)?)?;
        for block in &self.blocks {
            x = block.forward(x)?;
        }
        let x = self.head_relu.forward(self.head.forward(&x)?)?;
        let [count, channels] = [x.shape()[0], x.shape()[1]];
        let pixels = x.into_shape_with_order([count, channels, (SIZE / 32).pow(2)]);
        let means = pixels.expect("as many pixels").mean_axis(Axis(2));
        self.classifier.forward(&means.expect("some pixels").into_dyn())
    }
}

impl EfficientNet {
    /// The layers between which factors of channels can move, once norms are folded.
    pub fn pairs(&self) -> Vec<ChannelPair> {
        let mut pairs = vec![pair("stem", "stem_relu", "blocks.0.depthwise")];
        for (index, block) in self.blocks.iter().enumerate() {
            let path = |name: &str| format!("blocks.{index}.{name}");
            if block.expand.is_some() {
                pairs.push(pair(&path("expand"), &path("expand_relu"), &path("depthwise")));
            }
            pairs.push(pair(&path("depthwise"), &path("depthwise_relu"), &path("project")));
        }
        let head = ChannelPair::new("head.conv", ["classifier"]).ceiling("head_relu.ceiling");
        pairs.push(head);
        pairs
    }
}

fn pair(first: &str, relu: &str, then: &str) -> ChannelPair {
    ChannelPair::new(format!("{first}.conv"), [format!("{then}.conv")])
        .ceiling(format!("{relu}.ceiling"))
}

impl Default for EfficientNet {
    fn default() -> Self {
        Self::new()
    }
}

impl Block {
    fn new(
        [inputs, outputs]: [usize; 2],
        expansion: usize,
        kernel: usize,
        (stride, size): (usize, usize),
    ) -> Self {
        let inner = inputs * expansion;
        let depthwise = same_padding(size, kernel, stride).groups(inner);
        Self {
            expand: (expansion > 1).then(|| conv([inputs, inner], 1, Conv2dOptions::new())),
            expand_relu: ClippedRelu::new(6.0),
            depthwise_relu: ClippedRelu::new(6.0),
            depthwise: conv([inner, inner], kernel, depthwise),
            project: conv([inner, outputs], 1, Conv2dOptions::new()),
            adds_input: stride == 1 && inputs == outputs,
        }
    }

    fn forward(&self, x: ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let y = match &self.expand {
            Some(expand) => self.expand_relu.forward(expand.forward(&x)?)?,
            None => x.clone(),
        };
        let y = self.depthwise_relu.forward(self.depthwise.forward(&y)?)?;
        let y = self.project.forward(&y)?;
        Ok(if self.adds_input { y + x } else { y })
    }
}

/// The stride, and the padding for `size / stride` outputs. Where it is odd, more is at the end.
fn same_padding(size: usize, kernel: usize, stride: usize) -> Conv2dOptions {
    let all = (size.div_ceil(stride) - 1) * stride + kernel - size;
    let sides = [all / 2, all - all / 2];
    Conv2dOptions::new().stride([stride; 2]).padding_sides([sides; 2])
}

fn conv([inputs, outputs]: [usize; 2], kernel: usize, options: Conv2dOptions) -> ConvNorm2d {
    let weight = zeros(&[outputs, inputs / options.groups, kernel, kernel]);
    let norm = [(); 4].map(|()| zeros(&[outputs]));
    let [weights, biases, means, variances] = norm;
    ConvNorm2d::new(
        Conv2d::new(weight, None, options).expect("a weight of rank 4"),
        BatchNorm2d::new(weights, biases, means, variances, EPSILON).expect("one for each channel"),
    )
}

fn zeros(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(IxDyn(shape))
}
