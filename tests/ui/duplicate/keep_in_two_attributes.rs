use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(keep)]
    #[module(keep)]
    inner: u8,
}

fn main() {}
