use quant::Module;

#[derive(Module)]
struct Model {
    #[module(alias = head)]
    embedding: u8,
}

fn main() {}
