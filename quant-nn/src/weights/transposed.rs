//! Weights of transposed convolutions as the kernels take them.

use super::PackWeightsError;
use crate::ops::channel_axis;
use quant::scheme::{Axis, Granularity};
use quant::tensor::QuantizedTensor;
use quant_kernels::{Codes, ConvTransposeShape, PackError, Weights};

/// The quantized weight of a transposed convolution, `[in, out / groups, …]`, with a row for each output
/// channel.
pub(crate) struct TransposedWeights {
    n: usize,
    k: usize,
    codes: Vec<i8>,
    granularity: Granularity,
    scales: Vec<f32>,
    zero_points: Vec<i8>,
    minimums: Vec<f32>,
}

impl TransposedWeights {
    /// # Errors
    /// Channels that do not lie along the [axis of outputs](channel_axis).
    pub(crate) fn new(
        tensor: &QuantizedTensor,
        shape: &ConvTransposeShape,
    ) -> Result<Self, PackWeightsError> {
        let ConvTransposeShape { in_channels, out_channels, groups, kernel_size, .. } = *shape;
        let scheme = tensor.scheme();
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        check_transposed(tensor, groups)?;
        // There is a row for each output channel now.
        let granularity = match scheme.granularity() {
            Granularity::PerChannel(_) => Granularity::PerChannel(Axis::FIRST),
            granularity => granularity,
        };
        let is_per_channel = granularity == Granularity::PerChannel(Axis::FIRST);
        let channels = || output_channels(tensor.shape(), groups);
        let positions = kernel_size[0] * kernel_size[1];
        let of_output = |output: usize| {
            let (group, of_group) = (output / group_out, output % group_out);
            let filters = (0..group_in).map(move |c| (group * group_in + c) * group_out + of_group);
            filters.flat_map(move |filter| filter * positions..(filter + 1) * positions)
        };
        let codes = tensor.codes();
        Ok(Self {
            n: out_channels,
            k: group_in * positions,
            codes: (0..out_channels).flat_map(of_output).map(|at| codes[at]).collect(),
            granularity,
            scales: of_channels(tensor.scales(), is_per_channel, channels()),
            zero_points: of_channels(tensor.zero_points(), is_per_channel, channels()),
            minimums: of_channels(tensor.minimums(), is_per_channel, channels()),
        })
    }

    pub(crate) fn view(&self) -> Weights<'_> {
        Weights {
            n: self.n,
            k: self.k,
            codes: Codes::Bytes(&self.codes),
            granularity: self.granularity,
            scales: &self.scales,
            zero_points: &self.zero_points,
            minimums: &self.minimums,
        }
    }
}

/// Refuses the weight of a transposed convolution, `[in, out / groups, …]`, whose channels do not lie
/// along its [axis of outputs](channel_axis), and blocks.
pub(crate) fn check_transposed(
    tensor: &QuantizedTensor,
    groups: usize,
) -> Result<(), PackWeightsError> {
    let (shape, scheme) = (tensor.shape(), tensor.scheme());
    let axis = channel_axis(shape.first().copied().unwrap_or(0), groups);
    match scheme.granularity() {
        Granularity::PerChannel(found)
            if found.resolve(shape.len()) != axis.resolve(shape.len()) =>
        {
            Err(PackWeightsError::TransposedChannels { scheme, axis })
        }
        Granularity::PerBlock(_) => Err(PackWeightsError::Pack(PackError::BlockedConv)),
        _ => Ok(()),
    }
}

/// The position along the [axis of outputs](channel_axis) of each output channel of a weight `[in,
/// out / groups, …]`.
pub(crate) fn output_channels(shape: &[usize], groups: usize) -> impl Iterator<Item = usize> {
    let (inputs, group_out) = (shape[0], shape[1]);
    let is_by_group = channel_axis(inputs, groups) == Axis::FIRST;
    let channel = move |output| if is_by_group { output / group_out } else { output % group_out };
    (0..groups * group_out).map(channel)
}

/// Parameters for each of `channels`, if there is one for each channel.
fn of_channels<T: Copy>(
    all: &[T],
    is_per_channel: bool,
    channels: impl Iterator<Item = usize>,
) -> Vec<T> {
    if !is_per_channel || all.is_empty() {
        return all.to_vec();
    }
    channels.map(|channel| all[channel]).collect()
}
