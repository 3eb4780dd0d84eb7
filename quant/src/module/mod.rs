//! Models as trees of parameters: the trait that `#[derive(Module)]` implements, and its walk.

#[cfg(feature = "nn")]
mod cache;
mod containers;
mod id;
mod map;
mod param;
mod visit;
mod walk;

pub use id::ParamId;
pub use map::{MapError, ModuleMapper, TryModuleMapper};
pub use param::{Param, ParamView};
pub use visit::{ModuleVisitor, ParamInfo};
pub use walk::{Directive, Walker, WalkerMut};

#[cfg(feature = "std")]
pub(crate) use self::{
    map::{for_each_activation_mut, for_each_mut},
    visit::{for_each, for_each_activation},
    walk::{Leaves, Site, walk},
};

#[cfg(feature = "nn")]
pub(crate) use self::{
    cache::Cache,
    param::ParamMut,
    walk::{Fold, LeavesMut, walk_mut},
};

use alloc::vec::Vec;

#[cfg(feature = "std")]
use crate::record::{Record, RecordError, Recorder};

/// A tree of named parameters.
///
/// Derive it; a model is then visited, mapped, quantized, saved and loaded by the methods below.
/// The two required methods show the children, in order and under their names, to a walker;
/// everything else is written once, here.
///
/// Besides derived types, these are modules: [`Param`]; `Option`, `Box`, `Vec`, arrays and tuples
/// of modules, and `BTreeMap<String, _>`; and, as plain constants that hold no parameter,
/// integers, `bool`, `char`, `String`, `&str` and `PhantomData`. Floats are not: a bare
/// `f32` may be a parameter somebody forgot to wrap, so the compiler asks. Neither are `Rc` and
/// `Arc`: two names for one parameter cannot both be mapped in place.
///
/// ```
/// use quant::{Module, Param};
///
/// #[derive(Module)]
/// struct Dense { weight: Param<[[f32; 2]; 2]>, bias: Param<[f32; 2]> }
///
/// #[derive(Module)]
/// struct Mlp { layers: Vec<Dense>, #[module(skip)] name: String }
///
/// let dense = || Dense { weight: Param::new([[1.0; 2]; 2]), bias: Param::new([0.0; 2]) };
/// let mlp = Mlp { layers: vec![dense(), dense()], name: "tiny".into() };
/// let paths: Vec<_> = mlp.params().into_iter().map(|param| param.id.to_string()).collect();
/// assert_eq!(paths, ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]);
/// assert_eq!(mlp.num_params(), 12);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module",
    label = "neither a module, nor a parameter, nor a plain constant",
    note = "a parameter is wrapped: `Param<Array2<f32>>`, `Param<Vec<f32>>`, `Param<f32>`",
    note = "a struct or enum of your own derives it: `#[derive(Module)]`",
    note = "what is no part of the model is left out by name: `#[module(skip)]`"
)]
pub trait Module {
    /// Walks each child with a walker of its name, in declaration order.
    ///
    /// This is what the derive writes, and what to write for a type that cannot derive:
    ///
    /// ```
    /// use quant::{Module, Param, Walker, WalkerMut};
    ///
    /// struct Scale { by: Param<f32>, epsilon: f32 }
    ///
    /// impl Module for Scale {
    ///     fn walk(&self, walker: &mut Walker<'_>) {
    ///         self.by.walk(&mut walker.field("by"));
    ///     }
    ///
    ///     fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
    ///         self.by.walk_mut(&mut walker.field("by"));
    ///     }
    /// }
    ///
    /// let scale = Scale { by: Param::new(2.0), epsilon: 1e-5 };
    /// assert_eq!(scale.params()[0].id, "by");
    /// ```
    fn walk(&self, walker: &mut Walker<'_>);

    /// Walks each child in the same order and under the same names as [`walk`](Self::walk), to be
    /// changed in place.
    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>);

    /// Shows every parameter to `visitor`, in declaration order.
    fn visit(&self, visitor: &mut dyn ModuleVisitor) {
        visit::visit(self, visitor);
    }

    /// Replaces every parameter by what `mapper` makes of it.
    ///
    /// # Panics
    /// If the mapper returns a tensor of another shape. [`try_map`](Self::try_map) returns an
    /// error instead.
    #[must_use]
    fn map(self, mapper: &mut dyn ModuleMapper) -> Self
    where
        Self: Sized,
    {
        map::map(self, mapper)
    }

    /// Replaces every parameter by what `mapper` makes of it, up to the first error.
    ///
    /// # Errors
    /// The mapper's own, or that it returned a tensor of another shape; with the path.
    fn try_map<E>(self, mapper: &mut dyn TryModuleMapper<Error = E>) -> Result<Self, MapError<E>>
    where
        Self: Sized,
    {
        map::try_map(self, mapper)
    }

    /// Makes every quantized parameter float again.
    #[must_use]
    fn dequantize(self) -> Self
    where
        Self: Sized,
    {
        self.map(&mut map::Dequantize)
    }

    /// The number of scalar parameters.
    fn num_params(&self) -> usize {
        self.params().iter().map(ParamInfo::element_count).sum()
    }

    /// The path, shape and type of every parameter, in declaration order.
    fn params(&self) -> Vec<ParamInfo> {
        visit::params(self)
    }

    /// Quantizes the parameters as `planner`, a [`Quantizer`](crate::Quantizer) or a
    /// [`Recipe`](crate::Recipe), decides.
    ///
    /// Parameters that are quantized already, or have no elements, stay as they are. To see the
    /// decisions first, make a [`Plan`](crate::Plan).
    ///
    /// # Errors
    /// See [`QuantizeError`](crate::QuantizeError); all of it is found before anything is changed.
    #[cfg(feature = "std")]
    fn quantize_weights<P: crate::Planner + ?Sized>(
        self,
        planner: &mut P,
    ) -> Result<Self, crate::QuantizeError>
    where
        Self: Sized,
    {
        crate::quantize::quantize_weights(planner, self)
    }

    /// Saves the model to a file, which afterwards has either its old or its new content.
    ///
    /// See [`Recorder::save_file`] for what happens to an existing file.
    ///
    /// ```
    /// use quant::{BincodeRecorder, Module, Param};
    ///
    /// # let directory = std::env::temp_dir().join(format!("quant-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("model.quant");
    /// let model = vec![Param::new([1.0f32, 2.0])];
    /// model.save_file(&path, &BincodeRecorder::default())?;
    ///
    /// let model = vec![Param::new([0.0f32; 2])].load_file(&path, &BincodeRecorder::default())?;
    /// assert_eq!(*model[0].value(), [1.0, 2.0]);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The system's, with the path, or a model that the recorder cannot write.
    #[cfg(feature = "std")]
    fn save_file(
        &self,
        path: impl AsRef<std::path::Path>,
        recorder: &dyn Recorder,
    ) -> Result<(), RecordError>
    where
        Self: Sized,
    {
        recorder.save_file(self, path.as_ref())
    }

    /// The model with the parameters of a file; see [`load_record`](Self::load_record).
    ///
    /// # Errors
    /// The system's, with the path; a file that is no record; or, all at once, the differences
    /// between record and model.
    #[cfg(feature = "std")]
    fn load_file(
        self,
        path: impl AsRef<std::path::Path>,
        recorder: &dyn Recorder,
    ) -> Result<Self, RecordError>
    where
        Self: Sized,
    {
        self.load_record(recorder.load_file(path.as_ref())?)
    }

    /// Saves the model to bytes.
    ///
    /// # Errors
    /// A model that the recorder cannot write.
    #[cfg(feature = "std")]
    fn save_bytes(&self, recorder: &dyn Recorder) -> Result<Vec<u8>, RecordError>
    where
        Self: Sized,
    {
        let mut bytes = Vec::new();
        recorder.save(self, &mut bytes)?;
        Ok(bytes)
    }

    /// The model with the parameters of a record in memory; see
    /// [`load_record`](Self::load_record).
    ///
    /// # Errors
    /// Bytes that are no record, or, all at once, the differences between record and model.
    #[cfg(feature = "std")]
    fn load_bytes(self, mut bytes: &[u8], recorder: &dyn Recorder) -> Result<Self, RecordError>
    where
        Self: Sized,
    {
        let len = bytes.len() as u64;
        self.load_record(recorder.load(&mut bytes, Some(len))?)
    }

    /// Saves the model to a writer, which is flushed.
    ///
    /// # Errors
    /// The writer's, or a model that the recorder cannot write.
    #[cfg(feature = "std")]
    fn save_to(
        &self,
        mut writer: impl std::io::Write,
        recorder: &dyn Recorder,
    ) -> Result<(), RecordError>
    where
        Self: Sized,
    {
        recorder.save(self, &mut writer)
    }

    /// The model with the parameters of a record that takes all of `reader`; see
    /// [`load_record`](Self::load_record).
    ///
    /// # Errors
    /// The reader's; bytes that are no record; or, all at once, the differences between record
    /// and model.
    #[cfg(feature = "std")]
    fn load_from(
        self,
        mut reader: impl std::io::Read,
        recorder: &dyn Recorder,
    ) -> Result<Self, RecordError>
    where
        Self: Sized,
    {
        self.load_record(recorder.load(&mut reader, None)?)
    }

    /// The model with the parameters of a record.
    ///
    /// Names and shapes must be the model's. Each parameter becomes what the record has, float or
    /// quantized, whatever it was before.
    ///
    /// ```
    /// use quant::{Difference, Module, Param, Record, RecordError, Tensor};
    ///
    /// let mut record = Record::new();
    /// record.insert("0", Tensor::from_values(&[3], vec![1.0, 2.0, 3.0])?);
    /// let model = vec![Param::new([0.0f32; 2]), Param::new([0.0; 2])];
    /// let Err(RecordError::Differences(found)) = model.load_record(record) else { panic!() };
    /// assert_eq!(found[0].to_string(), "0: shape [3] in the record, but [2] in the model");
    /// assert_eq!(found[1].to_string(), "1: missing in the record; shape [2]");
    /// # Ok::<(), quant::TensorError>(())
    /// ```
    ///
    /// # Errors
    /// [`RecordError::Differences`]: all of them. The model is dropped then, never half loaded.
    #[cfg(feature = "std")]
    fn load_record(self, record: Record) -> Result<Self, RecordError>
    where
        Self: Sized,
    {
        crate::record::load_into(self, record)
    }

    /// Gives every [`ActivationQuantizer`](crate::ActivationQuantizer) the mode that the recipe
    /// says: float, dynamic, or, on the way to static, observing.
    ///
    /// # Errors
    /// Rules of the recipe that match no activation, or come too late.
    #[cfg(feature = "std")]
    fn prepare(self, recipe: &crate::Recipe) -> Result<Self, crate::QuantizeError>
    where
        Self: Sized,
    {
        crate::activation::prepare(self, recipe)
    }

    /// [Prepares](Self::prepare) the model and shows it `batches`, so that activations that are
    /// to be static observe their ranges. [`convert`](Self::convert) makes them static.
    ///
    /// Each batch is dropped before the next is drawn, and observers have a fixed size: memory
    /// does not grow with the data. Calling it again goes on where it ended. Progress is the
    /// iterator's business: with the crate `indicatif`, pass `batches.progress()`.
    ///
    /// ```
    /// use quant::{ActivationQuantizer, ActivationScheme, Module, Recipe};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let recipe = Recipe::new().activations(ActivationScheme::STATIC);
    /// let batches = [vec![0.5, -1.0], vec![2.0]];
    /// let input = ActivationQuantizer::new()
    ///     .calibrate(&recipe, batches, |input, batch| input.observe(&batch))?
    ///     .convert()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare), and the first that `forward` returns.
    #[cfg(feature = "std")]
    fn calibrate<B, T, E>(
        self,
        recipe: &crate::Recipe,
        batches: impl IntoIterator<Item = B>,
        forward: impl FnMut(&Self, B) -> Result<T, E>,
    ) -> Result<Self, crate::CalibrateError<E>>
    where
        Self: Sized,
    {
        crate::activation::calibrate(self, recipe, batches, forward)
    }

    /// Folds every norm that a layer holds into the layer's weights, so that what is quantized is
    /// what is executed; see [`ConvNorm2d`](crate::nn::ConvNorm2d).
    ///
    /// # Errors
    /// A weight that is quantized already, or a norm of another number of channels; with the path.
    #[cfg(feature = "nn")]
    fn fold_norms(self) -> Result<Self, crate::nn::FoldError>
    where
        Self: Sized,
    {
        crate::nn::fold(self)
    }

    /// Makes every observing activation static. Others stay as they are, so that converting
    /// twice changes nothing.
    ///
    /// # Errors
    /// Activations that the calibration data never reached: all of them.
    #[cfg(feature = "std")]
    fn convert(self) -> Result<Self, crate::ConvertError>
    where
        Self: Sized,
    {
        crate::activation::convert(self)
    }
}
