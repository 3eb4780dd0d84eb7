use quant::Module;

#[derive(Module)]
#[module(crate = quant, crate = "quant")]
struct Layer {
    inner: u8,
}

fn main() {}
