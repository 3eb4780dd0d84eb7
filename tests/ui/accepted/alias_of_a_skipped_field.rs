use quant::Module;

#[derive(Module)]
struct Model {
    #[module(alias = "head", rename = "table")]
    embedding: u8,
    #[module(skip)]
    head: u8,
}

#[derive(Module)]
enum Either {
    First(#[module(alias = "head.out", keep)] u8),
    Second { #[module(alias = "tied")] first: u8 },
}

fn main() {}
