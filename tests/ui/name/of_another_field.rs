use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = "bias")]
    weight: u8,
    bias: u8,
}

fn main() {}
