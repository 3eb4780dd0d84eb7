use quant::{Module, Param};

#[derive(Module)]
struct Layer {
    weight: *const Param<[f32; 4]>,
}

fn main() {}
