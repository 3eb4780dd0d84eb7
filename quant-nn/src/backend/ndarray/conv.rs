//! Convolution, pooling and normalization of images in floats.

use rayon::prelude::*;
use rten_tensor::NdTensorView;

use super::float;
use crate::error::ForwardError;
use crate::ops::{Conv2dOptions, Pool};
use quant::activation::ActivationQuantizer;
use quant_kernels::ConvShape;

/// The shape that the kernels know for a weight `[out, in / groups, height, width]`.
fn conv_shape(weight: &[usize; 4], options: Conv2dOptions) -> ConvShape {
    let [out_channels, group_in, height, width] = *weight;
    let Conv2dOptions { stride, padding, dilation, groups } = options;
    ConvShape {
        in_channels: group_in * groups,
        out_channels,
        kernel_size: [height, width],
        stride,
        padding,
        dilation,
        groups,
    }
}

/// The sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    /// Height and width of an image.
    pub(crate) size: [usize; 2],
    pub(crate) shape: ConvShape,
    /// Height and width of the result.
    pub(crate) output: [usize; 2],
}

/// Images of floats: `[batch, channel, height, width]`.
#[derive(Clone, Copy)]
pub(crate) struct FloatImages<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
}

impl Geometry {
    /// The shape of the result: `[batch, out, height, width]`.
    pub(crate) fn output_dims(&self) -> [usize; 4] {
        [self.batch, self.shape.out_channels, self.output[0], self.output[1]]
    }

    /// The images of these values.
    pub(crate) fn images<'a>(&self, values: &'a [f32]) -> FloatImages<'a> {
        FloatImages { values, batch: self.batch, size: self.size }
    }

    /// Input and output channels of a group.
    fn group_channels(&self) -> [usize; 2] {
        let ConvShape { in_channels, out_channels, groups, .. } = self.shape;
        [in_channels / groups, out_channels / groups]
    }

    /// Elements of a channel of an image, and of one of the result.
    fn pixels(&self) -> [usize; 2] {
        [self.size, self.output].map(|[height, width]| height * width)
    }

    /// Elements of an image.
    pub(crate) fn image_len(&self) -> usize {
        self.shape.in_channels * self.pixels()[0]
    }

    /// Places in a window.
    fn places(&self) -> usize {
        self.shape.kernel_size[0] * self.shape.kernel_size[1]
    }

    /// Elements that one output of a group is a sum over.
    fn patch(&self) -> usize {
        self.group_channels()[0] * self.places()
    }
}

/// The sizes of a convolution of `x` with `weight`, if there is one.
pub(crate) fn check(
    x: &[usize],
    weight: &[usize],
    options: Conv2dOptions,
    input: &ActivationQuantizer,
) -> Result<Geometry, ForwardError> {
    let (Ok(window), &[batch, channels, height, width]) = (<&[usize; 4]>::try_from(weight), x)
    else {
        let expected = "[batch, in, height, width] and [out, in / groups, height, width]";
        return Err(ForwardError::shape(input, expected, x));
    };
    let (shape, size) = (conv_shape(window, options), [height, width]);
    let output = Some(shape).filter(is_possible).and_then(|it| it.output_size(size));
    let Some(output) = output.filter(|_| shape.in_channels == channels) else {
        let expected = format!("{shape:?} of [batch, {}, …]", shape.in_channels);
        return Err(ForwardError::shape(input, expected, x));
    };
    Ok(Geometry { batch, size, shape, output })
}

/// Whether a window of this shape can be moved at all.
fn is_possible(shape: &ConvShape) -> bool {
    let ConvShape { out_channels, groups, kernel_size: window, stride, dilation, .. } = *shape;
    let extents = [window, stride, dilation];
    groups > 0 && out_channels.is_multiple_of(groups) && !extents.as_flattened().contains(&0)
}

/// The convolution of images `[batch, in, height, width]` into `y`, which is 0, by products of the
/// weights and the patches of one image at a time.
pub(crate) fn conv2d(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    geometry: &Geometry,
    y: &mut [f32],
) {
    let ConvShape { out_channels, groups, .. } = geometry.shape;
    let ([group_in, group_out], [pixels, outputs]) = (geometry.group_channels(), geometry.pixels());
    let patch = geometry.patch();
    let add_bias = |y: &mut [f32]| {
        for (y, bias) in y.chunks_mut(outputs).zip(bias.into_iter().flatten()) {
            y.iter_mut().for_each(|y| *y += bias);
        }
    };
    if y.is_empty() {
        return;
    }
    if pixels * patch == 0 {
        // No channels, or nothing but padding: sums of no products.
        return y.chunks_mut(out_channels * outputs).for_each(add_bias);
    }
    let images = x.par_chunks(geometry.image_len());
    images.zip(y.par_chunks_mut(out_channels * outputs)).for_each(|(x, y)| {
        let mut patches = vec![0.0; patch * outputs];
        for group in 0..groups {
            let x = &x[group * group_in * pixels..][..group_in * pixels];
            unfold(x, geometry, &mut patches);
            let weights = &weight[group * group_out * patch..][..group_out * patch];
            let y = &mut y[group * group_out * outputs..][..group_out * outputs];
            let weights = NdTensorView::from_data([group_out, patch], weights);
            let patches = NdTensorView::from_data([patch, outputs], &*patches);
            float::product(weights, patches, 1.0, y);
        }
        add_bias(y);
    });
}

/// The patches of one image as columns: `[in · height · width of the window, outputs]`.
fn unfold(x: &[f32], geometry: &Geometry, patches: &mut [f32]) {
    let (places, [pixels, outputs]) = (geometry.places(), geometry.pixels());
    for (row, values) in patches.chunks_mut(outputs).enumerate() {
        let (channel, place) = (row / places, row % places);
        let x = &x[channel * pixels..][..pixels];
        for_each_pixel(geometry, place, |i, at| values[i] = at.map_or(0.0, |at| x[at]));
    }
}

/// Calls `f` with each output and where in a channel the window for it has its place `place`;
/// `None` in the padding.
fn for_each_pixel(geometry: &Geometry, place: usize, mut f: impl FnMut(usize, Option<usize>)) {
    let Geometry { size, shape, output, .. } = *geometry;
    let ConvShape { kernel_size: window, stride, padding, dilation, .. } = shape;
    let place = [place / window[1], place % window[1]];
    let at = |axis: usize, output: usize| {
        let position = output * stride[axis] + place[axis] * dilation[axis];
        position.checked_sub(padding[axis]).filter(|&position| position < size[axis])
    };
    for i in 0..output[0] {
        let row = at(0, i).map(|down| down * size[1]);
        for j in 0..output[1] {
            f(i * output[1] + j, row.zip(at(1, j)).map(|(row, right)| row + right));
        }
    }
}

/// Pools windows of `[batch · channels, height, width]`; the windows lie inside of the images.
pub(crate) fn pool2d(
    values: &[f32],
    [rows, columns]: [usize; 2],
    pool: Pool,
    [height, width]: [usize; 2],
) -> Vec<f32> {
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

/// The gradients of [`pool2d`]: of a maximum, all goes to the first place that has it.
#[cfg(feature = "candle")]
pub(crate) fn pool2d_backward(
    x: &[f32],
    [rows, columns]: [usize; 2],
    pool: Pool,
    [height, width]: [usize; 2],
    dy: &[f32],
) -> Vec<f32> {
    let (size, stride) = (pool.size(), pool.stride());
    let mut dx = vec![0.0; x.len()];
    let pixels = (rows * columns).max(1);
    let images = x.chunks(pixels).zip(dx.chunks_mut(pixels));
    for ((x, dx), dy) in images.zip(dy.chunks((height * width).max(1))) {
        for (i, &dy) in dy.iter().enumerate() {
            let (down, right) = (i / width * stride[0], i % width * stride[1]);
            let places = (0..size[0])
                .flat_map(|i| (0..size[1]).map(move |j| (down + i) * columns + right + j));
            match pool {
                Pool::Max { .. } => {
                    let first = places.reduce(|best, at| if x[at] > x[best] { at } else { best });
                    first.into_iter().for_each(|at| dx[at] += dy);
                }
                Pool::Average { .. } => {
                    let share = dy / (size[0] * size[1]) as f32;
                    places.for_each(|at| dx[at] += share);
                }
            }
        }
    }
    dx
}

/// Images of which one thread sums the gradients of the weight; fixed, so that sums do not depend
/// on the number of threads.
#[cfg(feature = "candle")]
const IMAGES: usize = 8;

/// The gradients of [`conv2d`]: of the images and of the weight.
#[cfg(feature = "candle")]
pub(crate) fn conv2d_backward(
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    let image = geometry.image_len();
    let result = geometry.shape.out_channels * geometry.pixels()[1];
    if image * result * weight.len() == 0 {
        return (dx, dw);
    }
    let images = x.par_chunks(IMAGES * image).zip(dx.par_chunks_mut(IMAGES * image));
    let parts: Vec<Vec<f32>> = images
        .zip(dy.par_chunks(IMAGES * result))
        .map(|((x, dx), dy)| {
            let mut dw = vec![0.0; weight.len()];
            let images = x.chunks(image).zip(dx.chunks_mut(image)).zip(dy.chunks(result));
            for ((x, dx), dy) in images {
                image_backward(x, weight, geometry, dy, dx, &mut dw);
            }
            dw
        })
        .collect();
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(dw, part)| *dw += part);
    }
    (dx, dw)
}

/// Adds the gradients of one image.
#[cfg(feature = "candle")]
fn image_backward(
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    dy: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let ([group_in, group_out], [pixels, outputs]) = (geometry.group_channels(), geometry.pixels());
    let patch = geometry.patch();
    let (mut patches, mut sum) = (vec![0.0; patch * outputs], vec![0.0; group_out * patch]);
    for group in 0..geometry.shape.groups {
        let of_group = group * group_in * pixels..(group + 1) * group_in * pixels;
        let of_weight = group * group_out * patch..(group + 1) * group_out * patch;
        unfold(&x[of_group.clone()], geometry, &mut patches);
        let dy = &dy[group * group_out * outputs..][..group_out * outputs];
        let dy = NdTensorView::from_data([group_out, outputs], dy);
        let view = NdTensorView::from_data([patch, outputs], &*patches);
        float::product(dy, view.transposed(), 1.0, &mut sum);
        dw[of_weight.clone()].iter_mut().zip(&sum).for_each(|(dw, sum)| *dw += sum);
        let weights = NdTensorView::from_data([group_out, patch], &weight[of_weight]);
        float::product(weights.transposed(), dy, 1.0, &mut patches);
        refold(&patches, geometry, &mut dx[of_group]);
    }
}

/// Adds patches to the pixels that [`unfold`] took them from.
#[cfg(feature = "candle")]
fn refold(patches: &[f32], geometry: &Geometry, x: &mut [f32]) {
    let (places, [pixels, outputs]) = (geometry.places(), geometry.pixels());
    for (row, values) in patches.chunks(outputs).enumerate() {
        let (channel, place) = (row / places, row % places);
        let x = &mut x[channel * pixels..][..pixels];
        for_each_pixel(geometry, place, |i, at| {
            if let Some(at) = at {
                x[at] += values[i];
            }
        });
    }
}
