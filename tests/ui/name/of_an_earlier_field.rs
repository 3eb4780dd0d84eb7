use quant::Module;

#[derive(Module)]
struct Layer {
    weight: u8,
    #[module(rename = "weight")]
    bias: u8,
}

fn main() {}
