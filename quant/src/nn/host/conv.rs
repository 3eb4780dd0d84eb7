//! Convolution, pooling and normalization of images in floats.

use ndarray::ArrayD;
use rayon::prelude::*;
use rten_tensor::NdTensorView;

use super::super::{Conv2dOptions, Pool};
use super::float;
use crate::kernel::ConvShape;

/// The shape that the kernels know for a weight `[out, in / groups, height, width]`.
pub(super) fn conv_shape(weight: &[usize; 4], options: Conv2dOptions) -> ConvShape {
    let [out_channels, group_in, height, width] = *weight;
    let Conv2dOptions { stride, padding, dilation, groups } = options;
    ConvShape {
        in_channels: group_in * groups,
        out_channels,
        window: [height, width],
        stride,
        padding,
        dilation,
        groups,
    }
}

/// Whether a window of this shape can be moved at all.
pub(super) fn is_possible(shape: &ConvShape) -> bool {
    let ConvShape { out_channels, groups, window, stride, dilation, .. } = *shape;
    let extents = [window, stride, dilation];
    groups > 0 && out_channels.is_multiple_of(groups) && !extents.as_flattened().contains(&0)
}

/// The convolution of images `[batch, in, height, width]` into `y`, by products of the weights
/// and the patches of one image at a time.
pub(super) fn conv2d(
    x: &[f32],
    size: [usize; 2],
    weight: &[f32],
    bias: Option<&[f32]>,
    shape: ConvShape,
    output: [usize; 2],
    y: &mut [f32],
) {
    let ConvShape { in_channels, out_channels, groups, window, .. } = shape;
    let (group_in, group_out) = (in_channels / groups, out_channels / groups);
    let (pixels, outputs) = (size[0] * size[1], output[0] * output[1]);
    let patch = group_in * window[0] * window[1];
    if pixels * outputs * patch == 0 {
        return;
    }
    let images = x.par_chunks(in_channels * pixels);
    images.zip(y.par_chunks_mut(out_channels * outputs)).for_each(|(x, y)| {
        let mut patches = vec![0.0; patch * outputs];
        for group in 0..groups {
            let x = &x[group * group_in * pixels..][..group_in * pixels];
            unfold(x, size, shape, output, &mut patches);
            let weights = &weight[group * group_out * patch..][..group_out * patch];
            let y = &mut y[group * group_out * outputs..][..group_out * outputs];
            let weights = NdTensorView::from_data([group_out, patch], weights);
            let patches = NdTensorView::from_data([patch, outputs], &*patches);
            float::product(weights, patches, 1.0, y);
        }
        if let Some(bias) = bias {
            for (y, bias) in y.chunks_mut(outputs).zip(bias) {
                y.iter_mut().for_each(|y| *y += bias);
            }
        }
    });
}

/// The patches of one image as columns: `[in · height · width of the window, outputs]`.
fn unfold(x: &[f32], size: [usize; 2], shape: ConvShape, output: [usize; 2], patches: &mut [f32]) {
    let ConvShape { window, stride, padding, dilation, .. } = shape;
    let places = window[0] * window[1];
    for (row, values) in patches.chunks_mut(output[0] * output[1]).enumerate() {
        let (channel, place) = (row / places, row % places);
        let x = &x[channel * size[0] * size[1]..][..size[0] * size[1]];
        let at = |axis: usize, output: usize, place: usize| {
            let position = output * stride[axis] + place * dilation[axis];
            position.checked_sub(padding[axis]).filter(|&position| position < size[axis])
        };
        for (i, value) in values.iter_mut().enumerate() {
            let down = at(0, i / output[1], place / window[1]);
            let right = at(1, i % output[1], place % window[1]);
            *value = match (down, right) {
                (Some(down), Some(right)) => x[down * size[1] + right],
                _ => 0.0,
            };
        }
    }
}

/// Pools windows of `[batch · channels, height, width]`; the windows lie inside of the images.
pub(super) fn pool2d(x: &ArrayD<f32>, pool: Pool, [height, width]: [usize; 2]) -> Vec<f32> {
    let &[.., rows, columns] = x.shape() else { return Vec::new() };
    let values = crate::tensor::FloatTensor::values(x);
    let (size, stride) = (pool.size(), pool.stride());
    let mut y = Vec::with_capacity(values.len() / (rows * columns).max(1) * height * width);
    for image in values.chunks((rows * columns).max(1)) {
        for (down, right) in (0..height).flat_map(|d| (0..width).map(move |r| (d, r))) {
            let inside = (0..size[0]).flat_map(|i| {
                let start = (down * stride[0] + i) * columns + right * stride[1];
                image[start..start + size[1]].iter().copied()
            });
            y.push(match pool {
                Pool::Max { .. } => inside.fold(f32::NEG_INFINITY, f32::max),
                Pool::Average { .. } => inside.sum::<f32>() / (size[0] * size[1]) as f32,
            });
        }
    }
    y
}
