use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(crate = quant)]
    inner: u8,
}

fn main() {}
