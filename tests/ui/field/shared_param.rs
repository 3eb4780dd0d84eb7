use quant::{Module, Param};

#[derive(Module)]
struct Layer {
    weight: std::sync::Arc<Param<[f32; 4]>>,
}

fn main() {}
