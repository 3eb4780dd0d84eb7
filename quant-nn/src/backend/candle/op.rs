//! Operations of candle whose value was computed before, and whose gradient is a closure.
//!
//! A node of candle's graph has a value and a gradient. The values of these nodes come from kernels
//! that also run without candle, so the operation carries the value, and candle's forward pass
//! takes it out.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor,
};

use super::tensor::values;

/// A value that the forward pass takes out, once.
struct Precomputed {
    name: &'static str,
    shape: Shape,
    values: Mutex<Option<Vec<f32>>>,
}

impl Precomputed {
    fn take(&self) -> Result<(CpuStorage, Shape)> {
        let taken = self.values.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some(values) => Ok((CpuStorage::F32(values), self.shape.clone())),
            None => candle_core::bail!("{} is computed once", self.name),
        }
    }
}

/// The gradients of the arguments, from that of the result.
pub(super) type UnaryGradient = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;
pub(super) type BinaryGradient = Box<dyn Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync>;

struct PrecomputedUnary {
    precomputed: Precomputed,
    gradient: UnaryGradient,
}

impl CustomOp1 for PrecomputedUnary {
    fn name(&self) -> &'static str {
        self.precomputed.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.precomputed.take()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if x.track_op() { (self.gradient)(dy).map(Some) } else { Ok(None) }
    }
}

struct PrecomputedBinary {
    precomputed: Precomputed,
    gradient: BinaryGradient,
}

impl CustomOp2 for PrecomputedBinary {
    fn name(&self) -> &'static str {
        self.precomputed.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.precomputed.take()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = (self.gradient)(dy)?;
        Ok((da.filter(|_| a.track_op()), db.filter(|_| b.track_op())))
    }
}

/// `values` as the result of an operation on `x`.
pub(super) fn precomputed_unary(
    name: &'static str,
    x: &Tensor,
    shape: impl Into<Shape>,
    values: Vec<f32>,
    gradient: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !x.track_op() {
        return Tensor::from_vec(values, shape.into(), x.device());
    }
    let precomputed = Precomputed { name, shape: shape.into(), values: Mutex::new(Some(values)) };
    x.apply_op1(PrecomputedUnary { precomputed, gradient: Box::new(gradient) })
}

/// `values` as the result of an operation on `a` and `b`.
pub(super) fn precomputed_binary(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    shape: impl Into<Shape>,
    values: Vec<f32>,
    gradient: impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !a.track_op() && !b.track_op() {
        return Tensor::from_vec(values, shape.into(), a.device());
    }
    let precomputed = Precomputed { name, shape: shape.into(), values: Mutex::new(Some(values)) };
    a.apply_op2(b, PrecomputedBinary { precomputed, gradient: Box::new(gradient) })
}

/// Has the value of its first argument, and passes the gradient to its second.
struct StraightThrough;

impl CustomOp2 for StraightThrough {
    fn name(&self) -> &'static str {
        "straight-through"
    }

    fn cpu_fwd(
        &self,
        value: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((value.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        value: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((value.try_clone(layout)?, layout.shape().clone()))
    }

    fn metal_fwd(
        &self,
        value: &MetalStorage,
        layout: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Ok((value.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(dy.clone())))
    }
}

/// The values of `value` with the gradient of `surrogate`; both have the same shape.
pub(super) fn straight_through(value: &Tensor, surrogate: &Tensor) -> Result<Tensor> {
    if !surrogate.track_op() {
        return Ok(value.clone());
    }
    if value.shape() != surrogate.shape() {
        candle_core::bail!(
            "gradients of shape {:?} for values of shape {:?}",
            surrogate.shape(),
            value.shape()
        );
    }
    // `try_clone` copies the whole storage, of which a tensor may be a view: make it contiguous
    // first.
    value.detach().force_contiguous()?.apply_op2(surrogate, StraightThrough)
}

/// `y`, to which the bias has been added, with the gradient of the bias.
pub(super) fn add_bias_gradient(
    y: Tensor,
    bias: Option<&Tensor>,
    gradient: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let Some(bias) = bias.filter(|bias| bias.track_op()) else { return Ok(y) };
    let y_values = values(&y)?;
    precomputed_binary("bias", [&y, bias], y.shape(), y_values, move |dy| {
        Ok([Some(dy.clone()), Some(gradient(dy)?)])
    })
}

/// `values`, with the gradients of candle's `graph` if one of `args` needs them.
pub(super) fn on_graph<const N: usize>(
    values: impl FnOnce() -> Result<Tensor>,
    graph: impl FnOnce() -> Result<Tensor>,
    args: [&Tensor; N],
) -> Result<Tensor> {
    let values = values()?;
    if args.iter().any(|arg| arg.track_op()) {
        straight_through(&values, &graph()?)
    } else {
        Ok(values)
    }
}
