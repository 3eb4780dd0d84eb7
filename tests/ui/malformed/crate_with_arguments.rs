use quant::Module;

#[derive(Module)]
#[module(crate = quant::<u8>)]
struct Layer {
    inner: u8,
}

fn main() {}
