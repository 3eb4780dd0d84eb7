//! A checkpoint that another program has quantized: every tensor that it is said to have can be read,
//! or says why not, and a model with a place for the order of inputs beside each weight is loaded or
//! refused. The first two bytes are the length of the `config.json` that follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::ParamId;
use quant::module::{StateLeaf, Walk, Walker, WalkerMut};
use quant_formats::__private::import_bytes;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return };
    let Some((config, file)) = rest.split_at_checked(u16::from_le_bytes(*len).into()) else { return };
    let Ok(checkpoint) = import_bytes(file, config) else { return };
    for (index, entry) in checkpoint.entries().iter().enumerate() {
        if let Ok(tensor) = checkpoint.read(index) {
            assert_eq!(tensor.shape(), entry.shape);
            assert_eq!(tensor.quantized().map(|it| it.scheme()), entry.scheme());
        }
    }
    checkpoint.states().expect("states of a file in memory");
    let layers = checkpoint.entries().iter();
    let layers = layers.filter_map(|entry| entry.id.as_str().strip_suffix(".weight"));
    let orders = layers.map(|layer| (layer.to_owned(), InputOrder)).collect();
    // The model has no parameters, which is found after all tensors have been read.
    let _ = checkpoint.load_into(Orders(orders));
});

/// States beside weights.
struct Orders(Vec<(String, InputOrder)>);

struct InputOrder;

impl Walk for Orders {
    fn walk(&self, walker: &mut Walker<'_>) {
        for (layer, order) in &self.0 {
            walker.field(layer).field("input_order").state(order);
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        for (layer, order) in &mut self.0 {
            walker.field(layer).field("input_order").state(order);
        }
    }
}

impl StateLeaf for InputOrder {
    fn kind(&self) -> &str {
        "input-order/1"
    }

    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    fn load(&mut self, _path: &ParamId, data: Option<&[u8]>) -> Result<(), String> {
        let mut order: Vec<_> = data.unwrap_or_default().chunks(4).collect();
        order.sort_unstable();
        assert!(order.windows(2).all(|it| it[0] != it[1]), "each input is taken once");
        Ok(())
    }
}
