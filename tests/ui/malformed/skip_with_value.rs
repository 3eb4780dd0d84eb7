use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skip = true)]
    inner: u8,
}

fn main() {}
