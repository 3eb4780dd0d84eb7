//! Parameters: a storage of floats, or what it was quantized to.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::any::Any;
use core::fmt;

use super::attachment::{Attachment, Slot};
#[cfg(feature = "std")]
use super::cache::Cache;
use super::walk::{Walk, Walker, WalkerMut};
use crate::tensor::{FloatTensor, QuantizedTensor, Repr, Tensor, TensorError};

/// A parameter of a model: a float tensor of type `T`, or the quantized tensor made of it.
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
    /// With the place where the float tensor lived, and will live again.
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

    /// What is computed from the value and kept beside it, such as packed weights.
    #[cfg(feature = "std")]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The attachment, if the parameter has one and it is an `A`.
    pub fn attachment<A: Attachment>(&self) -> Option<&A> {
        self.attached.as_dyn()?.downcast_ref()
    }

    /// Drops what was computed from the value, which is about to change.
    fn forget(&mut self) {
        #[cfg(feature = "std")]
        {
            self.cache = Cache::default();
        }
    }

    /// Where the float tensor lives, or will live when the parameter is float again.
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
            State::Float(value) => ParamView(View::Float(value)),
            State::Quantized(tensor, _) => ParamView(View::Quantized(tensor)),
        });
        if let Some(attached) = self.attached.as_dyn() {
            attached.walk(walker);
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

/// A parameter seen by reference, whatever its storage.
#[derive(Clone, Copy)]
pub struct ParamView<'a>(View<'a>);

#[derive(Clone, Copy)]
enum View<'a> {
    Float(&'a dyn FloatView),
    Host(&'a Tensor),
    Quantized(&'a QuantizedTensor),
}

/// What of [`FloatTensor`] does not name the type.
trait FloatView {
    fn shape(&self) -> Cow<'_, [usize]>;
    fn values(&self) -> Cow<'_, [f32]>;
    fn as_any(&self) -> Option<&dyn Any>;
}

impl<T: FloatTensor> FloatView for T {
    fn shape(&self) -> Cow<'_, [usize]> {
        FloatTensor::shape(self)
    }

    fn values(&self) -> Cow<'_, [f32]> {
        FloatTensor::values(self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        FloatTensor::as_any(self)
    }
}

impl<'a> ParamView<'a> {
    /// The extent of each axis.
    pub fn shape(self) -> Cow<'a, [usize]> {
        match self.0 {
            View::Float(value) => value.shape(),
            View::Host(tensor) => Cow::Borrowed(tensor.shape()),
            View::Quantized(tensor) => Cow::Borrowed(tensor.shape()),
        }
    }

    /// The values in row-major order: borrowed if the storage has them so, dequantized if the
    /// parameter is quantized.
    pub fn values(self) -> Cow<'a, [f32]> {
        match self.0 {
            View::Float(value) => value.values(),
            View::Host(tensor) => tensor.values(),
            View::Quantized(tensor) => Cow::Owned(tensor.dequantize()),
        }
    }

    /// The quantized tensor, or `None` when the parameter is float.
    pub fn quantized(self) -> Option<&'a QuantizedTensor> {
        match self.0 {
            View::Float(_) => None,
            View::Host(tensor) => tensor.quantized(),
            View::Quantized(tensor) => Some(tensor),
        }
    }

    /// Whether the parameter is quantized.
    pub fn is_quantized(self) -> bool {
        self.quantized().is_some()
    }

    /// The float storage, if its type is `T` and it says so by [`FloatTensor::as_any`].
    pub fn downcast_ref<T: FloatTensor + 'static>(self) -> Option<&'a T> {
        self.as_any()?.downcast_ref()
    }

    pub(crate) fn as_any(self) -> Option<&'a dyn Any> {
        match self.0 {
            View::Float(value) => value.as_any(),
            View::Host(_) | View::Quantized(_) => None,
        }
    }

    /// A copy of the parameter.
    pub fn to_tensor(self) -> Tensor {
        match self.0 {
            View::Float(value) => Tensor::from_values(&value.shape(), value.values().into_owned())
                .expect("a storage has as many values as its shape says"),
            View::Host(tensor) => tensor.clone(),
            View::Quantized(tensor) => tensor.clone().into(),
        }
    }
}

impl<'a> From<&'a QuantizedTensor> for ParamView<'a> {
    fn from(tensor: &'a QuantizedTensor) -> Self {
        Self(View::Quantized(tensor))
    }
}

impl<'a> From<&'a Tensor> for ParamView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self(View::Host(tensor))
    }
}

/// A parameter to be changed in place, whatever its storage.
pub trait ParamMut {
    /// The parameter by reference.
    fn view(&self) -> ParamView<'_>;

    /// Moves the tensor out; until one is [`put`](Self::put) back the parameter is empty.
    fn take(&mut self) -> Tensor;

    /// Moves a tensor in.
    ///
    /// # Errors
    /// The storage cannot hold the tensor.
    fn put(&mut self, tensor: Tensor) -> Result<(), TensorError>;

    /// The attachment, if there is one.
    fn attached(&self) -> Option<&dyn Attachment>;

    /// The attachment to be changed, if there is one.
    fn attached_mut(&mut self) -> Option<&mut dyn Attachment>;

    /// Attaches `attachment`, or drops the one there is.
    ///
    /// # Errors
    /// The parameter is quantized, or has no storage type of its own.
    fn attach(&mut self, attachment: Option<Box<dyn Attachment>>) -> Result<(), TensorError>;
}

impl<T: FloatTensor> ParamMut for Param<T> {
    fn view(&self) -> ParamView<'_> {
        ParamView(match &self.state {
            State::Float(value) => View::Float(value),
            State::Quantized(tensor, _) => View::Quantized(tensor),
        })
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
