use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skip, keep)]
    inner: u8,
}

fn main() {}
