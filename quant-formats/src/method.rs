//! How other programs quantize, and which tensors of a checkpoint they have quantized.

use std::fmt;

use quant::ParamId;

/// A method, or a layout, in which other programs store quantized weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// GPTQ: codes packed along the inputs, in `qweight`, `qzeros`, `scales` and `g_idx`.
    Gptq,
    /// AWQ: codes of 4 bits packed along the outputs, in `qweight`, `qzeros` and `scales`.
    Awq,
    /// compressed-tensors: `weight_packed`, or `weight` of integers, with `weight_scale`.
    CompressedTensors,
    /// Floats of 8 bits with scales per tensor, channel or block.
    Fp8,
    /// Floats of 4 bits with a power of two for each 32.
    Mxfp4,
    /// Floats of 8 bits with a power of two for each 32.
    Mxfp8,
    /// Floats of 4 bits with an 8-bit float for each 16, and a scale for the tensor.
    Nvfp4,
    /// MLX: codes in `weight`, with `scales` and `biases`.
    Mlx,
    /// bitsandbytes: NF4, FP4 or `LLM.int8()`.
    BitsAndBytes,
    /// `ExLlamaV2`.
    Exl2,
    /// `ExLlamaV3`.
    Exl3,
    /// HQQ.
    Hqq,
    /// optimum-quanto.
    Quanto,
    /// AQLM.
    Aqlm,
    /// `QuIP#`.
    QuipSharp,
    /// Scales belong to the tensor, or `config.json` says that it is quantized, in a layout that is
    /// not known here.
    Unknown,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::CompressedTensors => "compressed-tensors",
            Self::Fp8 => "FP8",
            Self::Mxfp4 => "MXFP4",
            Self::Mxfp8 => "MXFP8",
            Self::Nvfp4 => "NVFP4",
            Self::Mlx => "MLX",
            Self::BitsAndBytes => "bitsandbytes",
            Self::Exl2 => "EXL2",
            Self::Exl3 => "EXL3",
            Self::Hqq => "HQQ",
            Self::Quanto => "quanto",
            Self::Aqlm => "AQLM",
            Self::QuipSharp => "QuIP#",
            Self::Unknown => "an unknown method",
        })
    }
}

/// The method of a tensor, and the bits of its codes where they are integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Encoding {
    /// The method.
    pub method: Method,
    /// The bits of an integer code; `None` for floats, or if they are not known.
    pub bits: Option<u8>,
}

impl Encoding {
    pub(crate) fn new(method: Method, bits: impl Into<Option<u8>>) -> Self {
        Self { method, bits: bits.into() }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            Some(bits) => f.pad(&format!("{} int{bits}", self.method)),
            None => self.method.fmt(f),
        }
    }
}

/// A tensor that another program has quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreQuantizedTensor {
    /// The name that the float tensor had, such as `fc.weight`.
    pub id: ParamId,
    /// How it is stored.
    pub encoding: Encoding,
    /// The names of the tensors of the file that hold it: codes, scales and others.
    pub components: Vec<ParamId>,
    /// Why it cannot be read; `None` if it is an entry of the checkpoint like any other.
    pub refusal: Option<Refusal>,
    /// Why the entry has floats; `None` if it has the codes, in a scheme of this library, or if there
    /// is no entry.
    pub as_floats: Option<FloatReason>,
}

/// The tensors of a checkpoint that another program has quantized; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreQuantized {
    tensors: Vec<PreQuantizedTensor>,
    named: Option<String>,
}

impl PreQuantized {
    /// `None` if there are no tensors. `named` is the method as the configuration calls it.
    pub(crate) fn new(tensors: Vec<PreQuantizedTensor>, named: Option<String>) -> Option<Self> {
        (!tensors.is_empty()).then_some(Self { tensors, named })
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[PreQuantizedTensor] {
        &self.tensors
    }

    /// The method as the configuration beside the file calls it, if it does.
    pub fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// The first tensor that cannot be read, and why.
    pub fn refused(&self) -> Option<(&PreQuantizedTensor, &Refusal)> {
        self.tensors.iter().find_map(|tensor| Some((tensor, tensor.refusal.as_ref()?)))
    }

    /// The tensors that `rename` keeps, under other names.
    pub(crate) fn renamed(
        &self,
        rename: impl Fn(&PreQuantizedTensor) -> Option<ParamId>,
    ) -> Option<Self> {
        let keep =
            |it: &PreQuantizedTensor| Some(PreQuantizedTensor { id: rename(it)?, ..it.clone() });
        Self::new(self.tensors.iter().filter_map(keep).collect(), self.named.clone())
    }

    /// Each encoding with the number of its tensors, in the order of the file.
    fn encodings(&self) -> Vec<(Encoding, usize)> {
        let mut counts: Vec<(Encoding, usize)> = Vec::new();
        for PreQuantizedTensor { encoding, .. } in &self.tensors {
            match counts.iter_mut().find(|(counted, _)| counted == encoding) {
                Some((_, count)) => *count += 1,
                None => counts.push((*encoding, 1)),
            }
        }
        counts
    }
}

/// `GPTQ int4 (224 tensors), FP8 (2 tensors), such as model.layers.0.mlp.up_proj.weight`
impl fmt::Display for PreQuantized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (encoding, count)) in self.encodings().into_iter().enumerate() {
            let (comma, s) =
                (if position > 0 { ", " } else { "" }, if count == 1 { "" } else { "s" });
            write!(f, "{comma}{encoding} ({count} tensor{s})")?;
        }
        write!(f, ", such as {}", self.tensors[0].id)?;
        match &self.named {
            Some(named) if self.tensors.iter().any(|it| it.encoding.method == Method::Unknown) => {
                write!(f, "; its configuration calls the method `{named}`")
            }
            _ => Ok(()),
        }
    }
}

/// Why a tensor that another program has quantized is read as floats: no scheme has its codes exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatReason {
    /// The codes are floats of 8 or 4 bits.
    FloatCodes,
    /// Codes of this width.
    Bits {
        /// The bits of a code.
        bits: usize,
    },
    /// The columns of a group are not next to each other.
    ActOrder,
    /// Elements of more than one row share a scale.
    Blocks,
    /// Each group has a float that is added, of another type than its scale.
    Biases,
    /// The codes are positions in a table of values.
    Table,
    /// A code is multiplied by two numbers, with a rounding after each.
    Factors,
    /// A zero point is no code.
    ZeroPoint {
        /// The zero point, where codes are signed.
        zero_point: i16,
    },
    /// A scale beside a zero point is not a positive normal number.
    Scale,
    /// There are no elements.
    Empty,
}

impl fmt::Display for FloatReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FloatCodes => f.write_str("its codes are floats"),
            Self::Bits { bits } => write!(f, "no scheme has codes of {bits} bit"),
            Self::ActOrder => f.write_str("its columns are not in the order of their groups"),
            Self::Blocks => f.write_str("its scales belong to more than one row"),
            Self::Biases => f.write_str("its biases have another type than its scales"),
            Self::Table => f.write_str("its codes are positions in a table"),
            Self::Factors => f.write_str("its codes are multiplied by two numbers"),
            Self::ZeroPoint { zero_point } => write!(f, "its zero point {zero_point} is no code"),
            Self::Scale => f.write_str("one of its scales is not a positive normal number"),
            Self::Empty => f.write_str("it has no elements"),
        }
    }
}

/// Why a tensor that another program has quantized cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The layout of the method is not supported.
    Unsupported,
    /// The variant of the method is not supported.
    Variant {
        /// The variant, as the configuration or the file calls it.
        name: String,
    },
    /// A tensor is missing.
    Missing {
        /// Its name.
        component: ParamId,
    },
    /// The file has another tensor of the name that the float tensor would have.
    NameTaken {
        /// The name.
        id: ParamId,
    },
    /// The type or the shape of a tensor does not fit the others.
    Layout {
        /// Its name.
        component: ParamId,
        /// Its type and shape.
        found: String,
    },
    /// Neither the shapes nor a configuration tell a number that is needed.
    Ambiguous {
        /// What is not known, such as `bits`.
        what: &'static str,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("this method cannot be read"),
            Self::Variant { name } => write!(f, "the variant `{name}` cannot be read"),
            Self::Missing { component } => write!(f, "`{component}` is missing"),
            Self::NameTaken { id } => write!(f, "there is another tensor `{id}`"),
            Self::Layout { component, found } => {
                write!(f, "`{component}` is {found}, which does not fit the other tensors")
            }
            Self::Ambiguous { what } => write!(
                f,
                "the {what} cannot be told from shapes; config.json or quantize_config.json, which \
                 says so, has to be in the same directory"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_counts_tensors_by_encoding() {
        let tensor = |name: &str, method, bits| PreQuantizedTensor {
            id: name.into(),
            encoding: Encoding::new(method, bits),
            components: vec![],
            refusal: None,
            as_floats: None,
        };
        let tensors = vec![
            tensor("a", Method::Gptq, Some(4)),
            tensor("b", Method::Fp8, None),
            tensor("c", Method::Gptq, Some(4)),
        ];
        let all = PreQuantized::new(tensors, Some("gptq".into())).unwrap();
        assert_eq!(all.to_string(), "GPTQ int4 (2 tensors), FP8 (1 tensor), such as a");
        assert!(PreQuantized::new(vec![], None).is_none());
        let unknown =
            PreQuantized::new(vec![tensor("w", Method::Unknown, None)], Some("x1".into()));
        assert_eq!(
            unknown.unwrap().to_string(),
            "an unknown method (1 tensor), such as w; its configuration calls the method `x1`"
        );
    }
}
