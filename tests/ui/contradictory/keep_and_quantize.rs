use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(keep, quantize)]
    inner: u8,
}

fn main() {}
