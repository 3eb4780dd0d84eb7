use quant::Module;

#[derive(Module)]
#[module(alias = "head")]
struct Model {
    embedding: u8,
}

fn main() {}
