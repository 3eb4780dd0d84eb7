use quant::{Module, Param};

#[derive(Module)]
struct Layer {
    weight: Param<Vec<u8>>,
}

fn main() {}
