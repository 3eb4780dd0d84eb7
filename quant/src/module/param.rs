//! Parameters: a storage of floats, or what it was quantized to.

use alloc::borrow::Cow;
#[cfg(feature = "candle")]
use alloc::boxed::Box;
use core::any::Any;
use core::fmt;

#[cfg(feature = "nn")]
use super::cache::Cache;
use super::{Module, Walker, WalkerMut};
#[cfg(feature = "candle")]
use crate::quantize::{Choice, WeightError};
use crate::tensor::{FloatTensor, QuantizedTensor, Repr, Tensor, TensorError};
#[cfg(feature = "candle")]
use crate::training::{FakeWeight, Phase, StepSize};

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
    #[cfg(feature = "nn")]
    cache: Cache,
    /// How the value is quantized in training; only of float ones.
    #[cfg(feature = "candle")]
    fake: Option<Box<FakeWeight<T>>>,
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
            #[cfg(feature = "nn")]
            cache: Cache::default(),
            #[cfg(feature = "candle")]
            fake: None,
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

    /// What was derived from the value; the nn layers keep their packed weights here.
    #[cfg(feature = "nn")]
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How the value is quantized in this phase of its training; `None` if it is not.
    #[cfg(feature = "candle")]
    pub(crate) fn fake(&self) -> Option<&FakeWeight<T>> {
        self.fake.as_deref().filter(|fake| fake.is_active())
    }

    /// Drops what was derived from the value, which is about to change.
    fn forget(&mut self) {
        #[cfg(feature = "nn")]
        {
            self.cache = Cache::default();
        }
    }

    #[cfg(feature = "candle")]
    pub(crate) fn place(&self) -> T::Device {
        self.device()
    }

    fn device(&self) -> T::Device {
        match &self.state {
            State::Float(value) => value.device(),
            State::Quantized(_, device) => device.clone(),
        }
    }
}

impl<T: FloatTensor> Module for Param<T> {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.param(match &self.state {
            State::Float(value) => ParamView(View::Float(value)),
            State::Quantized(tensor, _) => ParamView(View::Quantized(tensor)),
        });
        #[cfg(feature = "candle")]
        if let Some(fake) = &self.fake {
            fake.walk(walker);
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.param(self);
        #[cfg(feature = "candle")]
        if let Some(fake) = &mut self.fake {
            fake.walk_mut(walker);
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
            #[cfg(feature = "nn")]
            cache: self.cache.clone(),
            #[cfg(feature = "candle")]
            fake: self.fake.clone(),
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
pub(crate) trait ParamMut {
    fn view(&self) -> ParamView<'_>;

    /// Moves the tensor out; until one is [`put`](Self::put) back the parameter holds nothing.
    fn take(&mut self) -> Tensor;

    /// Moves a tensor in, or says why the storage cannot hold it.
    fn put(&mut self, tensor: Tensor) -> Result<(), TensorError>;

    /// Begins training for this choice, or says why the storage cannot be trained.
    #[cfg(feature = "candle")]
    fn begin_training(&mut self, _choice: &Choice, _steps: StepSize) -> Result<(), TensorError> {
        Err(TensorError::Storage("the storage has no gradients".into()))
    }

    /// Changes the phase, if the parameter is in training.
    #[cfg(feature = "candle")]
    fn set_phase(&mut self, _phase: Phase) {}

    /// What the parameter, if it is in training, is to become.
    #[cfg(feature = "candle")]
    fn trained(&self) -> Option<Result<QuantizedTensor, WeightError>> {
        None
    }
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
                #[cfg(feature = "candle")]
                {
                    self.fake = None;
                }
                State::Quantized(tensor, device)
            }
        };
        Ok(())
    }

    #[cfg(feature = "candle")]
    fn begin_training(&mut self, choice: &Choice, steps: StepSize) -> Result<(), TensorError> {
        let refuse = |reason: &str| Err(TensorError::Storage(reason.into()));
        let State::Float(value) = &self.state else {
            return refuse("the parameter is quantized already");
        };
        match value.as_any().and_then(crate::candle::variable) {
            None => return refuse("the storage is not a variable of candle"),
            Some(var) if var.dtype() != candle_core::DType::F32 => {
                return refuse("the storage is not of the type f32");
            }
            Some(_) => {}
        }
        let fake = FakeWeight::new(choice, steps, &value.shape(), &value.device())?;
        self.fake = Some(Box::new(fake));
        Ok(())
    }

    #[cfg(feature = "candle")]
    fn set_phase(&mut self, phase: Phase) {
        if let Some(fake) = &mut self.fake {
            fake.set_phase(phase);
        }
    }

    #[cfg(feature = "candle")]
    fn trained(&self) -> Option<Result<QuantizedTensor, WeightError>> {
        let (fake, State::Float(value)) = (self.fake()?, &self.state) else { return None };
        Some(fake.quantized(&value.shape(), &value.values()))
    }
}

/// A parameter of any shape, without a storage type of its own.
impl Module for Tensor {
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
}
