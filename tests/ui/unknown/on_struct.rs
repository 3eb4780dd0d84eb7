use quant::Module;

#[derive(Module)]
#[module(krate = quant)]
struct Layer {
    inner: u8,
}

fn main() {}
