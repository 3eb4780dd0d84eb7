use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(quantize, skip)]
    inner: u8,
}

fn main() {}
