//! Channels along the outputs of a layer.

use crate::module::ParamInfo;
use crate::scheme::{Axis, Granularity, QuantizationScheme};

/// The scheme with its channels along the outputs of the layer, where it has them along the first axis.
///
/// The first axis is the default of a scheme, and stands for the outputs. A layer whose outputs lie along
/// another axis, such as a transposed convolution, has no use for channels along the first one.
pub(super) fn along_outputs(info: &ParamInfo, scheme: QuantizationScheme) -> QuantizationScheme {
    if scheme.granularity() != Granularity::PerChannel(Axis::FIRST) {
        return scheme;
    }
    let (ty, mapping) = (scheme.quantization_type(), scheme.mapping());
    QuantizationScheme::new(ty, mapping, Granularity::PerChannel(info.outputs))
}
