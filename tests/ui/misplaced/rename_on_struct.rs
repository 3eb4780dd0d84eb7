use quant::Module;

#[derive(Module)]
#[module(rename = "layer")]
struct Layer {
    inner: u8,
}

fn main() {}
