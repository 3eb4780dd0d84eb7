//! A checkpoint of any format into a model.

use std::collections::HashSet;

use quant::module::{ModuleVisitor, ParamView, StateLeaf};
use quant::record::{Record, RecordState};
use quant::{Module, ParamId, RecordError};

use crate::checkpoint::Checkpoint;
use crate::gguf::is_header_kind;
use crate::source::Sorted;

/// The kind of the state for the order in which a layer takes its inputs. `docs/record-format.md` has
/// its bytes.
const INPUT_ORDER: &str = "input-order/1";

/// The name of that state beside a weight.
const INPUT_ORDER_NAME: &str = "input_order";

impl Checkpoint {
    /// The model with the parameters and states of the checkpoint; see
    /// [`load_record`](Module::load_record).
    ///
    /// What [`open`](crate::open) opens can be loaded: records, directories and shards of safetensors,
    /// GGUF files that are split, and what another program has quantized, with its codes where a scheme
    /// has them. [`Rename`](crate::Rename) gives tensors the names that they have in the model.
    ///
    /// GPTQ may give groups inputs that are not next to each other (act-order). Such a weight `….weight`
    /// is loaded with its columns sorted by group if the model has a state `….input_order` for their
    /// order, as `quant_nn::Linear` has, and as floats otherwise.
    ///
    /// ```
    /// use quant::{BincodeRecorder, Module, Param, Recipe};
    /// use quant_formats::{Inputs, Options, Rename};
    ///
    /// #[derive(Module)]
    /// struct Dense { weight: Param<[[f32; 64]; 2]> }
    ///
    /// # let directory = std::env::temp_dir().join(format!("quant-doc-load-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let (float, int4) = (directory.join("float.quant"), directory.join("int4"));
    /// let model = vec![Dense { weight: Param::new([[0.5; 64]; 2]) }];
    /// model.save_file(&float, &BincodeRecorder::default())?;
    ///
    /// // A directory as engines load it, with packed codes.
    /// let recipe = Recipe::new().scheme("per-block-full-range-int4:scale=bf16".parse()?);
    /// let from = Rename::new().replace("^", "model.layers.")?.checkpoint(quant_formats::open(float)?)?;
    /// quant_formats::quantize_folder(&from, &recipe, Inputs::Float, &int4, Options::default())?;
    ///
    /// let checkpoint = quant_formats::open(&int4)?;
    /// let checkpoint = Rename::new().replace(r"^model\.layers\.", "")?.checkpoint(checkpoint)?;
    /// let model = checkpoint.load_into(vec![Dense { weight: Param::new([[0.0; 64]; 2]) }])?;
    /// assert!(model[0].weight.is_quantized());
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A tensor cannot be read, or the names or shapes differ from those of the model. The header of a
    /// GGUF file is left out.
    pub fn load_into<M: Module>(&self, model: M) -> Result<M, RecordError> {
        let mut record = Record::new();
        for (key, value) in self.metadata() {
            record.insert_metadata(key, value);
        }
        self.load(model, record, |_| true)
    }

    /// A part of a model, with the tensors and states of the checkpoint whose names are `in_part`. The part
    /// has the names that it has in the model: a `BTreeMap` gives them to a layer.
    ///
    /// A model that is quantized or packed part by part, as the parts are loaded, takes the memory of what
    /// it becomes, and of one part as it is in the file.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use quant::{BincodeRecorder, Module, Param};
    ///
    /// #[derive(Module)]
    /// struct Dense { weight: Param<[f32; 2]> }
    ///
    /// # let directory = std::env::temp_dir().join(format!("quant-doc-part-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("model.quant");
    /// let model = [[1.0, 2.0], [3.0, 4.0]].map(|weight| Dense { weight: Param::new(weight) });
    /// Vec::from(model).save_file(&path, &BincodeRecorder::default())?;
    ///
    /// let checkpoint = quant_formats::open(&path)?;
    /// let second = BTreeMap::from([("1".to_owned(), Dense { weight: Param::new([0.0; 2]) })]);
    /// let second = checkpoint.load_part_into(second, |name| name.starts_with("1."))?;
    /// assert_eq!(*second["1"].weight.value(), [3.0, 4.0]);
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`load_into`](Self::load_into), for the tensors and states of the part.
    pub fn load_part_into<M: Module>(
        &self,
        part: M,
        in_part: impl Fn(&str) -> bool,
    ) -> Result<M, RecordError> {
        self.load(part, Record::new(), in_part)
    }

    fn load<M: Module>(
        &self,
        model: M,
        mut record: Record,
        is_loaded: impl Fn(&str) -> bool,
    ) -> Result<M, RecordError> {
        let orders = InputOrders::of(&model);
        let entries = self.entries().iter().enumerate();
        for (index, entry) in entries.filter(|(_, entry)| is_loaded(entry.id.as_str())) {
            let id = entry.id.clone();
            let sorted = match orders.beside(&id) {
                Some(order) => self.read_sorted(index)?.map(|sorted| (order, sorted)),
                None => None,
            };
            match sorted {
                None => record.insert(id, self.read(index)?),
                Some((order, Sorted { tensor, order: columns })) => {
                    let data = columns.into_iter().flat_map(u32::to_le_bytes).collect();
                    record.insert_state(RecordState { id: order, kind: INPUT_ORDER.into(), data });
                    record.insert(id, tensor)
                }
            };
        }
        let states = self.state_entries().into_iter().enumerate();
        let states = states.filter(|(_, entry)| !is_header_kind(&entry.kind));
        for (index, _) in states.filter(|(_, entry)| is_loaded(entry.id.as_str())) {
            record.insert_state(self.state(index)?);
        }
        model.load_record(record)
    }
}

/// The states of a model for the orders of inputs.
struct InputOrders(HashSet<ParamId>);

impl InputOrders {
    fn of(model: &impl Module) -> Self {
        let mut orders = Self(HashSet::new());
        model.visit(&mut orders);
        orders
    }

    /// That of the layer with this weight.
    fn beside(&self, weight: &ParamId) -> Option<ParamId> {
        let layer = weight.as_str().strip_suffix("weight")?;
        let order = ParamId::new(format!("{layer}{INPUT_ORDER_NAME}"));
        self.0.contains(&order).then_some(order)
    }
}

impl ModuleVisitor for InputOrders {
    fn visit_float(&mut self, _id: ParamId, _param: ParamView<'_>) {}

    fn visit_state(&mut self, id: ParamId, leaf: &dyn StateLeaf) {
        if leaf.kind() == INPUT_ORDER {
            self.0.insert(id);
        }
    }
}
