use quant::Module;

#[derive(Module)]
struct Model {
    #[module(skip, alias = "head")]
    embedding: u8,
}

fn main() {}
