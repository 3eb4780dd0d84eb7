//! Fake quantization of tensors, with a quantizer for each group.

use std::vec::Vec;

use super::{FakeQuantizer, gradient_scale};
use quant::scheme::{Group, Groups};

/// Fake quantization of a tensor whose groups have different scales: channels or blocks.
///
/// ```
/// use quant_nn::fake_quant::{FakeGroups, FakeQuantizer};
/// use quant::scheme::Groups;
/// use quant::scheme::{Axis, Granularity, Grid, Mapping, QuantParams, ScaleType};
/// use quant::QuantizationType;
///
/// let groups = Groups::new(&[2, 2], Granularity::PerChannel(Axis::FIRST))?;
/// let grid = Grid::new(QuantizationType::QInt4, Mapping::Symmetric, ScaleType::F32);
/// let row = |scale| FakeQuantizer::new(grid, QuantParams::new(scale, 0).unwrap());
/// let fake = FakeGroups::new(groups, vec![row(0.5), row(2.0)]).unwrap();
/// assert_eq!(fake.forward(&[0.6, 9.0, 0.6, 9.0]), [0.5, 3.5, 0.0, 8.0]);
/// # Ok::<(), quant::scheme::LayoutError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FakeGroups {
    groups: Groups,
    fakes: Vec<FakeQuantizer>,
}

impl FakeGroups {
    /// One quantizer for each of `groups`; `None` if their numbers differ.
    pub fn new(groups: Groups, fakes: Vec<FakeQuantizer>) -> Option<Self> {
        (groups.count() == fakes.len()).then_some(Self { groups, fakes })
    }

    /// The quantizer of each group.
    pub fn quantizers(&self) -> &[FakeQuantizer] {
        &self.fakes
    }

    /// The groups.
    pub fn groups(&self) -> Groups {
        self.groups
    }

    /// The fake-quantized values of `x`, in row-major order.
    ///
    /// # Panics
    /// If the number of values of `x` is not the number of elements of the groups.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        self.assert_len(x);
        let mut y = vec![0.0; x.len()];
        for Group { index, elements } in self.groups.runs() {
            self.fakes[index].forward(&x[elements.clone()], &mut y[elements]);
        }
        y
    }

    /// The gradient of `x`, by the straight-through estimator.
    ///
    /// # Panics
    /// If the number of values of `x` or `dy` is not the number of elements of the groups.
    pub fn backward(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        self.assert_len(x);
        self.assert_len(dy);
        let mut dx = vec![0.0; x.len()];
        for Group { index, elements } in self.groups.runs() {
            let (x, dy) = (&x[elements.clone()], &dy[elements.clone()]);
            self.fakes[index].backward(x, dy, &mut dx[elements]);
        }
        dx
    }

    /// The gradient of each group's scale, with `g` of [`gradient_scale`] for the number of
    /// elements of a group.
    ///
    /// # Panics
    /// If the number of values of `x` or `dy` is not the number of elements of the groups.
    pub fn scale_gradients(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        self.assert_len(x);
        self.assert_len(dy);
        let mut sums = vec![(0.0, 0); self.fakes.len()];
        for Group { index, elements } in self.groups.runs() {
            let (x, dy) = (&x[elements.clone()], &dy[elements.clone()]);
            sums[index].0 += self.fakes[index].scale_sum(x, dy);
            sums[index].1 += elements.len();
        }
        let gradient = |((sum, count), fake): (&(f64, usize), &FakeQuantizer)| {
            (f64::from(gradient_scale(*count, fake.qmax)) * sum) as f32
        };
        sums.iter().zip(&self.fakes).map(gradient).collect()
    }

    fn assert_len(&self, values: &[f32]) {
        assert_eq!(values.len(), self.groups.element_count(), "one value for each element");
    }
}
