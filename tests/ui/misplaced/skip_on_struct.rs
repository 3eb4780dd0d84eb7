use quant::Module;

#[derive(Module)]
#[module(skip)]
struct Layer {
    inner: u8,
}

fn main() {}
