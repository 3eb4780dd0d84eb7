use quant::Module;

#[derive(Module)]
struct Model {
    #[module(alias = "")]
    embedding: u8,
}

fn main() {}
