use quant::Module;

#[derive(Module)]
#[module(crate)]
struct Layer {
    inner: u8,
}

fn main() {}
