//! The pairs of layers that the model names.

use efficientnet::{EfficientNet, most_likely};
use ndarray::{ArrayD, IxDyn};
use quant::channels::{ChannelMethod, rescale};
use quant::{Module, ParamId, Tensor};
use quant_nn::FoldNorms;

/// Gives every parameter values that depend on their position.
struct Fill(u32);

impl quant::ModuleMapper for Fill {
    fn map_float(&mut self, id: ParamId, tensor: Tensor) -> Tensor {
        let shape = tensor.shape().to_vec();
        let fan_in: usize = shape.iter().skip(1).product();
        let size = (3.0 / fan_in as f32).sqrt();
        let is_variance = id.as_str().ends_with("running_var");
        let mut next = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0;
            if is_variance { 1.0 + value * 0.5 } else { value * size }
        };
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_values(&shape, values).expect("as many values as before")
    }
}

#[test]
fn the_model_gives_the_same_scores_after_its_channels_were_equalized() {
    let before = EfficientNet::new().map(&mut Fill(1)).fold_norms().unwrap();
    let mut after = before.clone();
    let rescaled = rescale(&mut after, &before.pairs(), &ChannelMethod::Equalize).unwrap();
    assert!(rescaled.pairs.iter().all(|pair| pair.factors.iter().any(|&factor| factor != 1.0)));
    let photo = ArrayD::from_shape_fn(IxDyn(&[1, 3, 224, 224]), |at| (at[2] * at[3] % 255) as f32);
    let photo = photo.mapv(|byte| (byte - 127.0) / 128.0);
    let [before, after] = [before, after].map(|model| model.forward(&photo).unwrap());
    let largest = before.iter().fold(0f32, |largest, score| largest.max(score.abs()));
    let distance = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(distance < 1e-3 * largest, "{distance} of {largest}");
    assert_eq!(most_likely(&before)[0].0, most_likely(&after)[0].0);
}
