use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme)]
    inner: u8,
}

fn main() {}
