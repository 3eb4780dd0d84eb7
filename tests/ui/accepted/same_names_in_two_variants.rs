use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(rename = "linear")]
    Linear { weight: u8 },
    Conv { weight: u8 },
}

pub fn main() {}
