use quant::Module;

#[derive(Module)]
#[module(quantize)]
struct Layer {
    inner: u8,
}

fn main() {}
