use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skip, skip)]
    inner: u8,
}

fn main() {}
