use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(quantize = "int8")]
    inner: u8,
}

fn main() {}
