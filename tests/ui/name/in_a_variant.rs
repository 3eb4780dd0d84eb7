use quant::Module;

#[derive(Module)]
enum Layer {
    Linear {
        weight: u8,
        #[module(rename = "weight")]
        bias: u8,
    },
}

fn main() {}
