use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(quantize, quantize)]
    inner: u8,
}

fn main() {}
