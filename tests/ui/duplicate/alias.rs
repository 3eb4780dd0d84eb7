use quant::Module;

#[derive(Module)]
struct Model {
    #[module(alias = "head", alias = "lm_head")]
    embedding: u8,
}

fn main() {}
