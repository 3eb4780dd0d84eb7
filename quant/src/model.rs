//! What every model can do: the verbs, written once on top of [`Walk`].
//!
//! This file imports every room below it, and no room imports it.

use alloc::vec::Vec;

#[cfg(feature = "std")]
use crate::activation::ConvertError;
use crate::module::{
    self, MapError, ModuleMapper, ModuleVisitor, ParamInfo, TryModuleMapper, Walk,
};
#[cfg(feature = "std")]
use crate::quantize::{self, CalibrateError, Planner, QuantizeError};
#[cfg(feature = "std")]
use crate::record::{self, Record, RecordError, Recorder};

/// A model: a tree of named parameters and states.
///
/// `#[derive(Module)]` implements [`Walk`], the two functions that show the leaves. Everything
/// below is provided for each type that implements it.
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
    note = "a struct or enum of your own derives it: `#[derive(Module)]`"
)]
pub trait Module: Walk {
    /// Shows every parameter to `visitor`, in declaration order.
    fn visit(&self, visitor: &mut dyn ModuleVisitor) {
        module::visit(self, visitor);
    }

    /// Replaces every parameter by what `mapper` makes of it. The input of a layer whose weights the
    /// mapper makes float again becomes float, too.
    ///
    /// # Panics
    /// If the mapper returns a tensor of another shape. [`try_map`](Self::try_map) returns an
    /// error instead.
    #[must_use]
    fn map(self, mapper: &mut dyn ModuleMapper) -> Self
    where
        Self: Sized,
    {
        #[cfg(feature = "std")]
        {
            let before = crate::activation::quantized_paths(&self);
            crate::activation::follow_weights(module::map(self, mapper), &before)
        }
        #[cfg(not(feature = "std"))]
        module::map(self, mapper)
    }

    /// Replaces every parameter by what `mapper` makes of it, up to the first error.
    ///
    /// # Errors
    /// The mapper's own, or that it returned a tensor of another shape; with the path.
    fn try_map<E>(self, mapper: &mut dyn TryModuleMapper<Error = E>) -> Result<Self, MapError<E>>
    where
        Self: Sized,
    {
        #[cfg(feature = "std")]
        {
            let before = crate::activation::quantized_paths(&self);
            let model = module::try_map(self, mapper)?;
            Ok(crate::activation::follow_weights(model, &before))
        }
        #[cfg(not(feature = "std"))]
        module::try_map(self, mapper)
    }

    /// Makes every quantized parameter float again.
    #[must_use]
    fn dequantize(self) -> Self
    where
        Self: Sized,
    {
        self.map(&mut module::Dequantize)
    }

    /// The number of scalar parameters.
    fn num_params(&self) -> usize {
        self.params().iter().map(ParamInfo::element_count).sum()
    }

    /// The path, shape and type of every parameter, in declaration order.
    fn params(&self) -> Vec<ParamInfo> {
        module::params(self)
    }

    /// Quantizes the weights and prepares the inputs of layers, all as `planner` says: a
    /// [`Recipe`](crate::Recipe) or a [`Quantizer`](crate::Quantizer).
    ///
    /// This is [`quantize_weights`](Self::quantize_weights) and [`prepare`](Self::prepare) in one.
    /// Static inputs need batches to observe: [`quantize_with`](Self::quantize_with) takes them.
    ///
    /// ```
    /// use quant::scheme::ActivationScheme;
    /// use quant::{Module, Param, Recipe};
    ///
    /// let recipe = Recipe::new()
    ///     .scheme("per-channel-symmetric-int8".parse()?)
    ///     .activations(ActivationScheme::DYNAMIC);
    /// let model = vec![Param::new([[0.5f32, -1.0], [0.25, 2.0]])].quantize(&recipe)?;
    /// assert!(model[0].is_quantized());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`quantize_weights`](Self::quantize_weights), and
    /// [`QuantizeError::Uncalibrated`]: the planner wants static inputs.
    #[cfg(feature = "std")]
    fn quantize<P: Planner>(self, planner: P) -> Result<Self, QuantizeError>
    where
        Self: Sized,
    {
        quantize::quantize(&planner, self)
    }

    /// Quantizes the weights, shows `batches` to the model so that static inputs find their
    /// ranges, and makes them static: [`quantize_weights`](Self::quantize_weights),
    /// [`calibrate`](Self::calibrate) and [`convert`](Self::convert) in one.
    ///
    /// ```
    /// use quant::scheme::ActivationScheme;
    /// use quant::activation::ActivationQuantizer;
    /// use quant::{Module, Recipe};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let recipe = Recipe::new().activations(ActivationScheme::STATIC);
    /// let batches = [vec![0.5, -1.0], vec![2.0]];
    /// let input = ActivationQuantizer::new()
    ///     .quantize_with(&recipe, batches, |input, batch| input.observe(&batch))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the three.
    #[cfg(feature = "std")]
    fn quantize_with<P: Planner, B, T, E>(
        self,
        planner: P,
        batches: impl IntoIterator<Item = B>,
        forward: impl FnMut(&Self, B) -> Result<T, E>,
    ) -> Result<Self, CalibrateError<E>>
    where
        Self: Sized,
    {
        quantize::quantize_with(&planner, self, batches, forward)
    }

    /// Quantizes the parameters as `planner`, a [`Quantizer`](crate::Quantizer) or a
    /// [`Recipe`](crate::Recipe), says.
    ///
    /// A parameter that is quantized already, or that has no elements, stays as it is. An input
    /// that the planner wants quantized is pending until [`prepare`](Self::prepare) or
    /// [`calibrate`](Self::calibrate): a layer refuses to run with a pending input, so that a
    /// forgotten step is an error. To see the decisions first, make a [`Plan`](crate::Plan).
    ///
    /// # Errors
    /// See [`QuantizeError`]. The model is dropped then; nothing was changed before.
    #[cfg(feature = "std")]
    fn quantize_weights<P: Planner>(self, planner: P) -> Result<Self, QuantizeError>
    where
        Self: Sized,
    {
        quantize::quantize_weights(&planner, self)
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
    /// use quant::record::{Difference, Record};
    /// use quant::{Module, Param, RecordError, Tensor};
    ///
    /// let mut record = Record::new();
    /// record.insert("0", Tensor::from_values(&[3], vec![1.0, 2.0, 3.0])?);
    /// let model = vec![Param::new([0.0f32; 2]), Param::new([0.0; 2])];
    /// let Err(RecordError::Differences(found)) = model.load_record(record) else { panic!() };
    /// assert_eq!(found[0].to_string(), "0: shape [3] in the record, but [2] in the model");
    /// assert_eq!(found[1].to_string(), "1: missing in the record; shape [2]");
    /// # Ok::<(), quant::tensor::TensorError>(())
    /// ```
    ///
    /// # Errors
    /// [`RecordError::Differences`]: all of them. The model is dropped then, never half loaded.
    #[cfg(feature = "std")]
    fn load_record(self, record: Record) -> Result<Self, RecordError>
    where
        Self: Sized,
    {
        record::load_into(self, record)
    }

    /// Gives every [`ActivationQuantizer`](crate::activation::ActivationQuantizer) the mode that
    /// `planner` says: float, dynamic or, on the way to static, observing.
    ///
    /// An input stays float where the planner keeps the weights beside it float: a plan says so.
    ///
    /// # Errors
    /// Rules that match nothing, or that earlier rules shadow.
    #[cfg(feature = "std")]
    fn prepare<P: Planner>(self, planner: P) -> Result<Self, QuantizeError>
    where
        Self: Sized,
    {
        quantize::prepare(&planner, self)
    }

    /// [Prepares](Self::prepare) the model and shows it `batches`, so that inputs that are to be
    /// static observe their ranges. [`convert`](Self::convert) makes them static.
    ///
    /// Each batch is dropped before the next is drawn, and observers have a fixed size: memory
    /// does not grow with the data. A second call goes on where the first ended. For a progress
    /// bar, pass an iterator that has one: with the crate `indicatif`, `batches.progress()`.
    ///
    /// ```
    /// use quant::scheme::ActivationScheme;
    /// use quant::activation::ActivationQuantizer;
    /// use quant::{Module, Recipe};
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
    fn calibrate<P: Planner, B, T, E>(
        self,
        planner: P,
        batches: impl IntoIterator<Item = B>,
        forward: impl FnMut(&Self, B) -> Result<T, E>,
    ) -> Result<Self, CalibrateError<E>>
    where
        Self: Sized,
    {
        quantize::calibrate(&planner, self, batches, forward)
    }

    /// Makes every observing input static. Others stay as they are, so that a second call changes
    /// nothing.
    ///
    /// # Errors
    /// Inputs that saw no calibration data, or that are still pending: all of them.
    #[cfg(feature = "std")]
    fn convert(self) -> Result<Self, ConvertError>
    where
        Self: Sized,
    {
        crate::activation::convert(self)
    }
}

impl<M: Walk + ?Sized> Module for M {}
