use quant::{Module, Param};

#[derive(Module)]
struct Layer {
    weight: std::cell::RefCell<Param<[f32; 4]>>,
}

fn main() {}
