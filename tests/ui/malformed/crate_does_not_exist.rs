use quant::Module;

#[derive(Module)]
#[module(crate = quantum)]
struct Layer {
    inner: u8,
}

fn main() {}
