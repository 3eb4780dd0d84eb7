//! States, and the one that inference needs.

use quant_kernels::scheme::{CodeRange, Mapping, QuantParams, Quantization, QuantizationType};

/// Bytes that a module keeps besides its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) data: &'a [u8],
}

impl<'a> State<'a> {
    /// The path of the module.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The name of the format of the bytes.
    pub const fn kind(&self) -> &'a str {
        self.kind
    }

    /// The bytes.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// How the input of a layer is quantized by a calibrated range: the form `static` of
    /// `activation/1`. `None` for any other state, and for numbers that this form may not have.
    pub fn static_input(&self) -> Option<Quantization> {
        let ("activation/1", &[1, mapping, bits, zero_point, ref scale @ ..]) =
            (self.kind, self.data)
        else {
            return None;
        };
        let mapping = match mapping {
            0 => Mapping::Symmetric,
            1 => Mapping::Affine,
            _ => return None,
        };
        let (least, greatest) = QuantizationType::from_bits(bits.into())?.code_range(mapping);
        let codes = CodeRange::new(least as i8, greatest as i8)?;
        let zero_point = zero_point as i8;
        let is_code = (codes.min()..=codes.max()).contains(&zero_point);
        if !is_code || mapping == Mapping::Symmetric && zero_point != 0 {
            return None;
        }
        let scale = f32::from_le_bytes(scale.try_into().ok()?);
        Some(Quantization::new(QuantParams::new(scale, zero_point).ok()?, codes))
    }
}
