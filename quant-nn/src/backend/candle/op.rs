//! Operations whose value is computed beforehand, and whose gradient is a function.
//!
//! candle's graph needs for each node the value and the way back. The value of our nodes comes
//! from the kernels that also run without candle; so an operation carries it, and hands it over
//! when candle asks.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor,
};

/// A value for the host to hand over once.
struct Given {
    name: &'static str,
    shape: Shape,
    values: Mutex<Option<Vec<f32>>>,
}

impl Given {
    fn take(&self) -> Result<(CpuStorage, Shape)> {
        let taken = self.values.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some(values) => Ok((CpuStorage::F32(values), self.shape.clone())),
            None => candle_core::bail!("{} was computed already", self.name),
        }
    }
}

/// The gradients of the arguments, from that of the result.
pub(super) type Back1 = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;
pub(super) type Back2 = Box<dyn Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync>;

struct Given1 {
    given: Given,
    back: Back1,
}

impl CustomOp1 for Given1 {
    fn name(&self) -> &'static str {
        self.given.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.given.take()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if x.track_op() { (self.back)(dy).map(Some) } else { Ok(None) }
    }
}

struct Given2 {
    given: Given,
    back: Back2,
}

impl CustomOp2 for Given2 {
    fn name(&self) -> &'static str {
        self.given.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.given.take()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = (self.back)(dy)?;
        Ok((da.filter(|_| a.track_op()), db.filter(|_| b.track_op())))
    }
}

/// The host's `values` as the result of an operation on `x`.
pub(super) fn given1(
    name: &'static str,
    x: &Tensor,
    shape: impl Into<Shape>,
    values: Vec<f32>,
    back: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !x.track_op() {
        return Tensor::from_vec(values, shape.into(), x.device());
    }
    let given = Given { name, shape: shape.into(), values: Mutex::new(Some(values)) };
    x.apply_op1(Given1 { given, back: Box::new(back) })
}

/// The host's `values` as the result of an operation on `a` and `b`.
pub(super) fn given2(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    shape: impl Into<Shape>,
    values: Vec<f32>,
    back: impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !a.track_op() && !b.track_op() {
        return Tensor::from_vec(values, shape.into(), a.device());
    }
    let given = Given { name, shape: shape.into(), values: Mutex::new(Some(values)) };
    a.apply_op2(b, Given2 { given, back: Box::new(back) })
}

/// The value of one tensor and the gradient of another.
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

/// The values of `value`, with the gradient that `surrogate`, of the same shape, has.
pub(super) fn straight_through(value: &Tensor, surrogate: &Tensor) -> Result<Tensor> {
    if !surrogate.track_op() {
        return Ok(value.clone());
    }
    if value.shape() != surrogate.shape() {
        candle_core::bail!("{:?} is no surrogate for {:?}", surrogate.shape(), value.shape());
    }
    // A copy of its own: `try_clone` copies a storage whole, whatever part of it a tensor shows.
    value.detach().force_contiguous()?.apply_op2(surrogate, StraightThrough)
}
