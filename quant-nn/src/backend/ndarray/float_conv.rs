//! Convolutions of float images and their gradients, by im2col.

use rayon::prelude::*;
use rten_tensor::NdTensorView;

use super::float;
use crate::backend::conv_shape::{ConvGeometry, ConvTransposeGeometry};
use quant_kernels::ConvShape;

/// Images of floats: `[batch, channel, height, width]`.
#[derive(Clone, Copy)]
pub(crate) struct FloatImages<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
}

/// The convolution of images `[batch, in, height, width]` into `y`, whose elements are 0: products
/// of the weights and the im2col matrix of one image at a time.
pub(crate) fn conv2d(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    geometry: &ConvGeometry,
    y: &mut [f32],
) {
    let ConvShape { out_channels, groups, .. } = geometry.shape;
    let ([group_in, group_out], [pixels, outputs]) = (geometry.group_channels(), geometry.pixels());
    let rows = geometry.im2col_rows();
    let add_bias = |y: &mut [f32]| add_bias(y, bias.unwrap_or_default(), outputs);
    if y.is_empty() {
        return;
    }
    if pixels * rows == 0 {
        // Without channels, or with padding alone, every sum has no products.
        return y.chunks_mut(out_channels * outputs).for_each(add_bias);
    }
    let images = x.par_chunks(geometry.image_len());
    images.zip(y.par_chunks_mut(out_channels * outputs)).for_each(|(x, y)| {
        let mut columns = vec![0.0; rows * outputs];
        for group in 0..groups {
            let x = &x[group * group_in * pixels..][..group_in * pixels];
            im2col(x, geometry, &mut columns);
            let weights = &weight[group * group_out * rows..][..group_out * rows];
            let y = &mut y[group * group_out * outputs..][..group_out * outputs];
            let weights = NdTensorView::from_data([group_out, rows], weights);
            let columns = NdTensorView::from_data([rows, outputs], &*columns);
            float::product(weights, columns, 1.0, y);
        }
        add_bias(y);
    });
}

/// Calls `f` with the values under the kernel, `[outputs, in · kernel height · kernel width]`, of each image of a
/// convolution without groups.
pub(crate) fn im2col_of_each<E>(
    x: &[f32],
    geometry: &ConvGeometry,
    mut f: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let (columns, [_, outputs]) = (geometry.im2col_rows(), geometry.pixels());
    if columns * outputs == 0 {
        return Ok(());
    }
    let mut matrix = vec![0.0; columns * outputs];
    let mut rows = matrix.clone();
    for x in x.chunks(geometry.image_len()) {
        im2col(x, geometry, &mut matrix);
        for (column, values) in matrix.chunks_exact(outputs).enumerate() {
            rows.iter_mut().skip(column).step_by(columns).zip(values).for_each(|(to, &x)| *to = x);
        }
        f(&rows)?;
    }
    Ok(())
}

/// The im2col matrix of one image: `[in · kernel height · kernel width, outputs]`.
fn im2col(x: &[f32], geometry: &ConvGeometry, columns: &mut [f32]) {
    let (kernel_len, [pixels, outputs]) = (geometry.kernel_len(), geometry.pixels());
    for (row, values) in columns.chunks_mut(outputs).enumerate() {
        let (channel, at_kernel) = (row / kernel_len, row % kernel_len);
        let x = &x[channel * pixels..][..pixels];
        for_each_pixel(geometry, at_kernel, |i, at| values[i] = at.map_or(0.0, |at| x[at]));
    }
}

/// Calls `f` with each output and the pixel of a channel at position `at_kernel` of the output's
/// kernel; `None` in the padding.
fn for_each_pixel(
    geometry: &ConvGeometry,
    at_kernel: usize,
    mut f: impl FnMut(usize, Option<usize>),
) {
    let ConvGeometry { size, shape, output, .. } = *geometry;
    let ConvShape { kernel_size, stride, padding, dilation, .. } = shape;
    let offset = [at_kernel / kernel_size[1], at_kernel % kernel_size[1]];
    let at = |axis: usize, output: usize| {
        let position = output * stride[axis] + offset[axis] * dilation[axis];
        position.checked_sub(padding[axis][0]).filter(|&position| position < size[axis])
    };
    for i in 0..output[0] {
        let row = at(0, i).map(|down| down * size[1]);
        for j in 0..output[1] {
            f(i * output[1] + j, row.zip(at(1, j)).map(|(row, right)| row + right));
        }
    }
}

/// The transposed convolution of images `[batch, in, height, width]` into `y`, whose elements are 0:
/// the gradient by its input of the convolution from `y` to `x`.
pub(crate) fn conv_transpose2d(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    geometry: &ConvTransposeGeometry,
    y: &mut [f32],
) {
    let adjoint = &geometry.adjoint;
    input_gradient(weight, adjoint, x, y);
    if let Some(bias) = bias {
        let [pixels, _] = adjoint.pixels();
        y.chunks_mut(bias.len().max(1) * pixels.max(1)).for_each(|y| add_bias(y, bias, pixels));
    }
}

/// Adds one number to each channel of `pixels` elements of an image.
fn add_bias(y: &mut [f32], bias: &[f32], pixels: usize) {
    for (y, bias) in y.chunks_mut(pixels.max(1)).zip(bias) {
        y.iter_mut().for_each(|y| *y += bias);
    }
}

/// The gradients of [`conv2d`]: of the images and of the weight.
#[cfg(feature = "candle")]
pub(crate) fn conv2d_backward(
    x: &[f32],
    weight: &[f32],
    geometry: &ConvGeometry,
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let mut dx = vec![0.0; x.len()];
    input_gradient(weight, geometry, dy, &mut dx);
    (dx, weight_gradient(x, geometry, dy, weight.len()))
}

/// The gradients of [`conv_transpose2d`]: of the images and of the weight.
#[cfg(feature = "candle")]
pub(crate) fn conv_transpose2d_backward(
    x: &[f32],
    weight: &[f32],
    geometry: &ConvTransposeGeometry,
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let mut dx = vec![0.0; x.len()];
    conv2d(dy, weight, None, &geometry.adjoint, &mut dx);
    (dx, weight_gradient(dy, &geometry.adjoint, x, weight.len()))
}

/// Adds the gradient of the images of [`conv2d`] to `dx`.
fn input_gradient(weight: &[f32], geometry: &ConvGeometry, dy: &[f32], dx: &mut [f32]) {
    let (image, result) = (geometry.image_len(), geometry.result_len());
    if image * result * weight.len() == 0 {
        return;
    }
    let ([group_in, group_out], [pixels, outputs]) = (geometry.group_channels(), geometry.pixels());
    let rows = geometry.im2col_rows();
    let images = dx.par_chunks_mut(image).zip(dy.par_chunks(result));
    images.for_each(|(dx, dy)| {
        let mut columns = vec![0.0; rows * outputs];
        for group in 0..geometry.shape.groups {
            let dy = &dy[group * group_out * outputs..][..group_out * outputs];
            let dy = NdTensorView::from_data([group_out, outputs], dy);
            let weights = &weight[group * group_out * rows..][..group_out * rows];
            let weights = NdTensorView::from_data([group_out, rows], weights);
            float::product(weights.transposed(), dy, 1.0, &mut columns);
            col2im(&columns, geometry, &mut dx[group * group_in * pixels..][..group_in * pixels]);
        }
    });
}

/// The number of images whose weight gradients are summed by one thread. It is fixed, so that sums
/// do not depend on the number of threads.
#[cfg(feature = "candle")]
const IMAGES: usize = 8;

/// The gradient of the weight of [`conv2d`], `len` elements.
#[cfg(feature = "candle")]
fn weight_gradient(x: &[f32], geometry: &ConvGeometry, dy: &[f32], len: usize) -> Vec<f32> {
    let mut dw = vec![0.0; len];
    let (image, result) = (geometry.image_len(), geometry.result_len());
    if image * result * len == 0 {
        return dw;
    }
    let images = x.par_chunks(IMAGES * image).zip(dy.par_chunks(IMAGES * result));
    let parts: Vec<Vec<f32>> = images
        .map(|(x, dy)| {
            let mut dw = vec![0.0; len];
            let images = x.chunks(image).zip(dy.chunks(result));
            images.for_each(|(x, dy)| add_weight_gradient(x, geometry, dy, &mut dw));
            dw
        })
        .collect();
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(dw, part)| *dw += part);
    }
    dw
}

/// Adds the gradient of the weight by one image.
#[cfg(feature = "candle")]
fn add_weight_gradient(x: &[f32], geometry: &ConvGeometry, dy: &[f32], dw: &mut [f32]) {
    let ([group_in, group_out], [pixels, outputs]) = (geometry.group_channels(), geometry.pixels());
    let rows = geometry.im2col_rows();
    let (mut columns, mut sum) = (vec![0.0; rows * outputs], vec![0.0; group_out * rows]);
    for group in 0..geometry.shape.groups {
        im2col(&x[group * group_in * pixels..][..group_in * pixels], geometry, &mut columns);
        let dy = &dy[group * group_out * outputs..][..group_out * outputs];
        let dy = NdTensorView::from_data([group_out, outputs], dy);
        let view = NdTensorView::from_data([rows, outputs], &*columns);
        float::product(dy, view.transposed(), 1.0, &mut sum);
        let dw = &mut dw[group * group_out * rows..][..group_out * rows];
        dw.iter_mut().zip(&sum).for_each(|(dw, sum)| *dw += sum);
    }
}

/// Adds the columns to the pixels that [`im2col`] copied them from.
fn col2im(columns: &[f32], geometry: &ConvGeometry, x: &mut [f32]) {
    let (kernel_len, [pixels, outputs]) = (geometry.kernel_len(), geometry.pixels());
    for (row, values) in columns.chunks(outputs).enumerate() {
        let (channel, at_kernel) = (row / kernel_len, row % kernel_len);
        let x = &mut x[channel * pixels..][..pixels];
        for_each_pixel(geometry, at_kernel, |i, at| {
            if let Some(at) = at {
                x[at] += values[i];
            }
        });
    }
}
