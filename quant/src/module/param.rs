//! A parameter: float in its own storage, or quantized.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::fmt;

use super::attached::Slot;
#[cfg(feature = "std")]
use super::cache::Cache;
use super::view::ParamView;
use super::walk::{Attachment, ParamMut, Walk, Walker, WalkerMut};
#[cfg(feature = "std")]
use crate::tensor::HoldsTensor;
use crate::tensor::{FloatTensor, QuantizedTensor, Repr, Tensor, TensorError};
#[cfg(feature = "std")]
use alloc::sync::Arc;

/// A parameter of a model: a float tensor of type `T`, or the quantized tensor made from it.
///
/// ```
/// use quant::Param;
///
/// let param = Param::new([[1.0f32, 2.0], [3.0, 4.0]]);
/// assert_eq!(param.value()[1][0], 3.0);
/// assert_eq!(param.shape(), [2, 2].as_slice());
/// assert!(!param.is_quantized());
/// ```
pub struct Param<T: FloatTensor> {
    state: State<T>,
    #[cfg(feature = "std")]
    cache: Cache,
    /// Only of float parameters.
    attached: Slot,
}

enum State<T: FloatTensor> {
    Float(T),
    /// With the device of the float tensor, for when the parameter is float again.
    Quantized(QuantizedTensor, T::Device),
}

impl<T: FloatTensor> Param<T> {
    /// The float parameter with this value.
    pub fn new(value: T) -> Self {
        Self {
            state: State::Float(value),
            #[cfg(feature = "std")]
            cache: Cache::default(),
            attached: Slot::default(),
        }
    }

    /// The value: borrowed when float, dequantized when not.
    ///
    /// # Panics
    /// If `T` refuses to hold its own shape, which only a faulty [`FloatTensor`] does.
    pub fn value(&self) -> Cow<'_, T>
    where
        T: Clone,
    {
        match &self.state {
            State::Float(value) => Cow::Borrowed(value),
            State::Quantized(tensor, device) => Cow::Owned(
                T::from_values(tensor.shape(), tensor.dequantize(), device)
                    .expect("a parameter's shape was checked when it was quantized"),
            ),
        }
    }

    /// The float value, or `None` while the parameter is quantized.
    pub fn as_float(&self) -> Option<&T> {
        match &self.state {
            State::Float(value) => Some(value),
            State::Quantized(..) => None,
        }
    }

    /// The float value to be changed, or `None` while the parameter is quantized.
    pub fn as_float_mut(&mut self) -> Option<&mut T> {
        self.forget();
        match &mut self.state {
            State::Float(value) => Some(value),
            State::Quantized(..) => None,
        }
    }

    /// The float value, moved out; `None` if the parameter is quantized.
    pub fn into_float(self) -> Option<T> {
        match self.state {
            State::Float(value) => Some(value),
            State::Quantized(..) => None,
        }
    }

    /// The quantized tensor, or `None` while the parameter is float.
    pub fn quantized(&self) -> Option<&QuantizedTensor> {
        match &self.state {
            State::Float(_) => None,
            State::Quantized(tensor, _) => Some(tensor),
        }
    }

    /// Whether the parameter is quantized.
    pub fn is_quantized(&self) -> bool {
        self.quantized().is_some()
    }

    /// The extent of each axis.
    pub fn shape(&self) -> Cow<'_, [usize]> {
        match &self.state {
            State::Float(value) => value.shape(),
            State::Quantized(tensor, _) => Cow::Borrowed(tensor.shape()),
        }
    }

    /// The cache of values computed from the parameter, such as packed weights.
    #[cfg(feature = "std")]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The attachment, if the parameter has one and it is an `A`.
    pub fn attachment<A: Attachment>(&self) -> Option<&A> {
        self.attached.as_dyn()?.downcast_ref()
    }

    /// Frees the memory of the quantized tensor, which another form has, too, such as packed weights in the
    /// [cache](Self::cache). The parameter stays what it is: it can be saved, compared, dequantized and
    /// changed; its values are then made again, and stay.
    ///
    /// # Errors
    /// A parameter that is float, or a form that has another tensor; nothing is freed then.
    #[cfg(feature = "std")]
    pub fn release(&mut self, holder: Arc<dyn HoldsTensor>) -> Result<(), TensorError> {
        match &mut self.state {
            State::Quantized(tensor, _) => tensor.release(holder),
            State::Float(_) => Err(TensorError::Storage("the parameter is not quantized".into())),
        }
    }

    /// Drops what was computed from the value, which is about to change.
    fn forget(&mut self) {
        #[cfg(feature = "std")]
        {
            self.cache = Cache::default();
        }
    }

    /// The device of the float tensor, also while the parameter is quantized.
    pub fn device(&self) -> T::Device {
        match &self.state {
            State::Float(value) => value.device(),
            State::Quantized(_, device) => device.clone(),
        }
    }
}

impl<T: FloatTensor> Walk for Param<T> {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.param(match &self.state {
            State::Float(value) => ParamView::of_float(value),
            State::Quantized(tensor, _) => tensor.into(),
        });
        if let Some(attached) = self.attached.as_dyn() {
            walker.attachment(attached);
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.param(self);
        if let Some(attached) = self.attached.as_dyn_mut() {
            attached.walk_mut(walker);
        }
    }
}

impl<T: FloatTensor> From<T> for Param<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: FloatTensor + Default> Default for Param<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: FloatTensor + Clone> Clone for Param<T> {
    fn clone(&self) -> Self {
        Self {
            state: match &self.state {
                State::Float(value) => State::Float(value.clone()),
                State::Quantized(tensor, device) => {
                    State::Quantized(tensor.clone(), device.clone())
                }
            },
            #[cfg(feature = "std")]
            cache: self.cache.clone(),
            attached: self.attached.clone(),
        }
    }
}

impl<T: FloatTensor + fmt::Debug> fmt::Debug for Param<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Float(value) => f.debug_tuple("Float").field(value).finish(),
            State::Quantized(tensor, _) => tensor.fmt(f),
        }
    }
}

/// Equal when both are float with equal values, or both quantized to the same codes.
impl<T: FloatTensor + PartialEq> PartialEq for Param<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.state, &other.state) {
            (State::Float(a), State::Float(b)) => a == b,
            (State::Quantized(a, _), State::Quantized(b, _)) => a == b,
            _ => false,
        }
    }
}

impl<T: FloatTensor> ParamMut for Param<T> {
    fn view(&self) -> ParamView<'_> {
        match &self.state {
            State::Float(value) => ParamView::of_float(value),
            State::Quantized(tensor, _) => tensor.into(),
        }
    }

    fn take(&mut self) -> Tensor {
        self.forget();
        let empty = State::Quantized(QuantizedTensor::placeholder(), self.device());
        match core::mem::replace(&mut self.state, empty) {
            State::Float(value) => Tensor::from_float(value),
            State::Quantized(tensor, _) => tensor.into(),
        }
    }

    fn put(&mut self, tensor: Tensor) -> Result<(), TensorError> {
        self.forget();
        let device = self.device();
        self.state = match tensor.into_repr() {
            Repr::Float(tensor) => State::Float(T::from_shared(tensor, &device)?),
            Repr::Quantized(tensor) => {
                self.attached.set(None);
                State::Quantized(tensor, device)
            }
        };
        Ok(())
    }

    fn attached(&self) -> Option<&dyn Attachment> {
        self.attached.as_dyn()
    }

    fn attached_mut(&mut self) -> Option<&mut dyn Attachment> {
        self.attached.as_dyn_mut()
    }

    fn attach(&mut self, attachment: Option<Box<dyn Attachment>>) -> Result<(), TensorError> {
        if attachment.is_some() && self.is_quantized() {
            return Err(TensorError::Storage("the parameter is quantized already".into()));
        }
        self.attached.set(attachment);
        Ok(())
    }
}

/// A parameter of any shape, without a storage type of its own.
impl Walk for Tensor {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.param(self.into());
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.param(self);
    }
}

impl ParamMut for Tensor {
    fn view(&self) -> ParamView<'_> {
        self.into()
    }

    fn take(&mut self) -> Tensor {
        core::mem::replace(self, QuantizedTensor::placeholder().into())
    }

    fn put(&mut self, tensor: Tensor) -> Result<(), TensorError> {
        *self = tensor;
        Ok(())
    }

    fn attached(&self) -> Option<&dyn Attachment> {
        None
    }

    fn attached_mut(&mut self) -> Option<&mut dyn Attachment> {
        None
    }

    fn attach(&mut self, _: Option<Box<dyn Attachment>>) -> Result<(), TensorError> {
        Err(TensorError::Storage("the parameter has no storage type of its own".into()))
    }
}
