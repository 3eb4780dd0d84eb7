//! Execution over `ndarray`: integers by the crate's kernels, floats by those of `rten`.

mod attention;
mod float;
mod integer;

use ndarray::{ArrayD, IxDyn};

pub use attention::attention;
pub use float::matmul;

use super::{Execute, ExecuteError, Unary};
use crate::activation::ActivationQuantizer;
use crate::module::Param;
use crate::tensor::FloatTensor;

impl Execute for ArrayD<f32> {
    fn linear(
        x: &Self,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        input: &ActivationQuantizer,
    ) -> Result<Self, ExecuteError> {
        let (&[outputs, inputs], Some(&last)) = (&*weight.shape(), x.shape().last()) else {
            return Err(ExecuteError::shape(input, "[out, in] times […, in]", x.shape()));
        };
        if last != inputs {
            return Err(ExecuteError::shape(input, format!("[…, {inputs}]"), x.shape()));
        }
        let values = FloatTensor::values(x);
        let rows = values.len() / inputs.max(1);
        input.observe(&values)?;
        let bias = bias.map(Param::value);
        let bias = bias.as_ref().map(|bias| FloatTensor::values(&**bias));
        if let Some(bias) = &bias
            && bias.len() != outputs
        {
            return Err(ExecuteError::shape(input, format!("bias [{outputs}]"), &[bias.len()]));
        }
        let mut y = vec![0.0; rows * outputs];
        match weight.quantized() {
            None => float::linear(&values, rows, weight, bias.as_deref(), &mut y)?,
            Some(_) => integer::linear(&values, rows, weight, bias.as_deref(), input, &mut y)?,
        }
        let mut shape = x.shape().to_vec();
        shape.pop();
        shape.push(outputs);
        Ok(array(&shape, y))
    }

    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self, ExecuteError> {
        let &[rows, columns] = &*weight.shape() else {
            let (expected, found) = ("[rows, columns]".into(), weight.shape().into_owned());
            return Err(ExecuteError::Shape { layer: "embedding".into(), expected, found });
        };
        let mut y = vec![0.0; indices.len() * columns];
        let float = weight.as_float().map(FloatTensor::values);
        for (position, (&index, y)) in indices.iter().zip(y.chunks_mut(columns.max(1))).enumerate()
        {
            let row = index as usize;
            if row >= rows {
                return Err(ExecuteError::Index { position, index, rows });
            }
            match (&float, weight.quantized()) {
                (Some(values), _) => y.copy_from_slice(&values[row * columns..][..columns]),
                (None, Some(tensor)) => tensor.dequantize_row_into(row, y),
                (None, None) => {}
            }
        }
        Ok(array(&[indices.len(), columns], y))
    }

    fn layer_norm(
        x: &Self,
        weight: &Param<Self>,
        bias: &Param<Self>,
        epsilon: f32,
    ) -> Result<Self, ExecuteError> {
        let (weight, bias) = (weight.value(), bias.value());
        let (weight, bias) = (FloatTensor::values(&*weight), FloatTensor::values(&*bias));
        let n = x.shape().last().copied().unwrap_or(1);
        if weight.len() != n || bias.len() != n {
            let expected = format!("[…, {}]", weight.len());
            let found = x.shape().to_vec();
            return Err(ExecuteError::Shape { layer: "layer norm".into(), expected, found });
        }
        let mut y = FloatTensor::values(x).into_owned();
        float::layer_norm(&mut y, &weight, &bias, epsilon);
        Ok(array(x.shape(), y))
    }

    fn unary(x: Self, function: Unary) -> Result<Self, ExecuteError> {
        Ok(on_values(x, |values| float::unary(values, function)))
    }

    fn softmax(x: Self) -> Result<Self, ExecuteError> {
        let row = x.shape().last().copied().unwrap_or(1).max(1);
        Ok(on_values(x, |values| float::softmax(values, row)))
    }
}

/// `x` with its values, in row-major order, changed in place.
fn on_values(x: ArrayD<f32>, f: impl FnOnce(&mut [f32])) -> ArrayD<f32> {
    let shape = x.shape().to_vec();
    let mut values = x.into_values();
    f(&mut values);
    array(&shape, values)
}

/// The array of as many values as the shape has elements.
fn array(shape: &[usize], values: Vec<f32>) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many values as the shape has elements")
}
