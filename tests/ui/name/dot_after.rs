use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = "layer.")]
    inner: u8,
}

fn main() {}
