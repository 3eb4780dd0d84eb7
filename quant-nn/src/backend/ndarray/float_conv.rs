//! Convolutions of float images and their gradients, by im2col.

use rayon::prelude::*;
use rten_tensor::NdTensorView;

use super::float;
use crate::backend::conv_shape::ConvGeometry;
use quant_kernels::ConvShape;

/// Images of floats: `[batch, channel, height, width]`.
#[derive(Clone, Copy)]
pub(crate) struct FloatImages<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
}

/// The images of these values.
pub(crate) fn images<'a>(geometry: &ConvGeometry, values: &'a [f32]) -> FloatImages<'a> {
    FloatImages { values, batch: geometry.batch, size: geometry.size }
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
    let add_bias = |y: &mut [f32]| {
        for (y, bias) in y.chunks_mut(outputs).zip(bias.into_iter().flatten()) {
            y.iter_mut().for_each(|y| *y += bias);
        }
    };
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

/// The number of images whose weight gradients are summed by one thread. It is fixed, so that sums
/// do not depend on the number of threads.
#[cfg(feature = "candle")]
const IMAGES: usize = 8;

/// The gradients of [`conv2d`]: of the images and of the weight.
#[cfg(feature = "candle")]
pub(crate) fn conv2d_backward(
    x: &[f32],
    weight: &[f32],
    geometry: &ConvGeometry,
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
    geometry: &ConvGeometry,
    dy: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let ([group_in, group_out], [pixels, outputs]) = (geometry.group_channels(), geometry.pixels());
    let rows = geometry.im2col_rows();
    let (mut columns, mut sum) = (vec![0.0; rows * outputs], vec![0.0; group_out * rows]);
    for group in 0..geometry.shape.groups {
        let of_group = group * group_in * pixels..(group + 1) * group_in * pixels;
        let of_weight = group * group_out * rows..(group + 1) * group_out * rows;
        im2col(&x[of_group.clone()], geometry, &mut columns);
        let dy = &dy[group * group_out * outputs..][..group_out * outputs];
        let dy = NdTensorView::from_data([group_out, outputs], dy);
        let view = NdTensorView::from_data([rows, outputs], &*columns);
        float::product(dy, view.transposed(), 1.0, &mut sum);
        dw[of_weight.clone()].iter_mut().zip(&sum).for_each(|(dw, sum)| *dw += sum);
        let weights = NdTensorView::from_data([group_out, rows], &weight[of_weight]);
        float::product(weights.transposed(), dy, 1.0, &mut columns);
        col2im(&columns, geometry, &mut dx[of_group]);
    }
}

/// Adds the columns to the pixels that [`im2col`] copied them from.
#[cfg(feature = "candle")]
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
