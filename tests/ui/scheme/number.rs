use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = 8)]
    inner: u8,
}

fn main() {}
