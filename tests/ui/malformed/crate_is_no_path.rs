use quant::Module;

#[derive(Module)]
#[module(crate = 3)]
struct Layer {
    inner: u8,
}

fn main() {}
