//! Fake quantization as an operation of candle.

use candle_core::{Result, Tensor};

use super::op::{precomputed_binary, precomputed_unary};
use super::tensor::values;
use crate::fake_quant::{FakeGroups, FakeQuantizer};
use quant::scheme::{Granularity, Groups};

/// Fake quantization of tensors, with gradients (rule 8).
///
/// ```
/// use candle_core::{Device, Var};
/// use quant_nn::candle::FakeQuantize;
/// use quant_nn::fake_quant::FakeQuantizer;
/// use quant::scheme::{Grid, Mapping, QuantParams, ScaleType};
/// use quant::QuantizationType;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let grid = Grid::new(QuantizationType::QInt4, Mapping::Symmetric, ScaleType::F32);
/// let fake = FakeQuantizer::new(grid, QuantParams::new(0.5, 0).unwrap());
/// let x = Var::new(&[0.6f32, 9.0], &Device::Cpu)?;
/// let y = FakeQuantize::per_tensor(fake).apply(&x)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.5, 3.5]);
/// let gradients = y.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>()?, [1.0, 0.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FakeQuantize(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Of tensors of any shape.
    PerTensor(FakeQuantizer),
    /// Of tensors of the shape that the groups were made for.
    Groups(FakeGroups),
}

impl FakeQuantize {
    /// One quantizer for all values of a tensor.
    pub fn per_tensor(fake: FakeQuantizer) -> Self {
        Self(Kind::PerTensor(fake))
    }

    /// A quantizer for each group of a tensor.
    pub fn grouped(groups: FakeGroups) -> Self {
        Self(Kind::Groups(groups))
    }

    /// The fake-quantized values, with the straight-through gradient.
    ///
    /// # Errors
    /// A tensor that has not as many elements as the groups, or one that is not f32.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let fake = self.for_tensor(x)?;
        let y = fake.forward(&values(x)?);
        Self::straight(x, fake, y)
    }

    /// The same with learned scales: those of `scale`, a value for each group, which get a
    /// gradient too, multiplied by [`gradient_scale`](crate::fake_quant::gradient_scale).
    ///
    /// # Errors
    /// As [`apply`](Self::apply); or a number of scales other than that of the groups, or one that
    /// is not a positive normal number.
    pub fn apply_learned(&self, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let fake = self.for_tensor(x)?;
        let scales = values(scale)?;
        if let Some(scale) = scales.iter().find(|scale| !(scale.is_normal() && **scale > 0.0)) {
            candle_core::bail!("the scale {scale:e} is not a positive normal number");
        }
        let fakes = fake.quantizers().iter().zip(&scales).map(|(fake, s)| fake.with_scale(*s));
        let Some(fake) = FakeGroups::new(fake.groups(), fakes.collect())
            .filter(|fake| fake.quantizers().len() == scales.len())
        else {
            candle_core::bail!("{} scales for {} groups", scales.len(), fake.quantizers().len());
        };
        let y = fake.forward(&values(x)?);
        Self::learned(x, scale, fake, y)
    }

    /// `y`, the result of `fake` on `x`, with the gradient of `x`.
    pub(super) fn straight(x: &Tensor, fake: FakeGroups, y: Vec<f32>) -> Result<Tensor> {
        let value = x.detach();
        precomputed_unary("fake-quantize", x, x.shape(), y, move |dy| {
            let dx = fake.backward(&values(&value)?, &values(dy)?);
            Tensor::from_vec(dx, value.shape(), value.device())
        })
    }

    /// `y`, the result of `fake` on `x`, with the gradients of `x` and of the scales.
    pub(super) fn learned(
        x: &Tensor,
        scale: &Tensor,
        fake: FakeGroups,
        y: Vec<f32>,
    ) -> Result<Tensor> {
        let (value, scale_value) = (x.detach(), scale.detach());
        precomputed_binary("fake-quantize-learned", [x, scale], x.shape(), y, move |dy| {
            let (x, dy) = (values(&value)?, values(dy)?);
            let dx = Tensor::from_vec(fake.backward(&x, &dy), value.shape(), value.device())?;
            let ds = fake.scale_gradients(&x, &dy);
            Ok([Some(dx), Some(Tensor::from_vec(ds, scale_value.shape(), scale_value.device())?)])
        })
    }

    fn for_tensor(&self, x: &Tensor) -> Result<FakeGroups> {
        if x.dtype() != candle_core::DType::F32 {
            candle_core::bail!("fake quantization is of f32, not of {:?}", x.dtype());
        }
        match &self.0 {
            Kind::PerTensor(fake) => Ok(one_group(x.dims(), *fake)),
            Kind::Groups(groups) if groups.groups().element_count() == x.elem_count() => {
                Ok(groups.clone())
            }
            Kind::Groups(groups) => candle_core::bail!(
                "{:?} has not the {} elements of the groups",
                x.shape(),
                groups.groups().element_count()
            ),
        }
    }
}

/// All of a tensor as one group.
pub(super) fn one_group(shape: &[usize], fake: FakeQuantizer) -> FakeGroups {
    Groups::new(shape, Granularity::PerTensor)
        .ok()
        .and_then(|groups| FakeGroups::new(groups, vec![fake]))
        .expect("the elements of a tensor can be counted, and are one group")
}
