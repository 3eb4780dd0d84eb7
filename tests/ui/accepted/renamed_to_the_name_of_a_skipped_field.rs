use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skip)]
    weight: f32,
    #[module(rename = "weight")]
    inner: u8,
}

pub fn main() {}
