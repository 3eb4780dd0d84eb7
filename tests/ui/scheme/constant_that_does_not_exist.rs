use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = INT8)]
    inner: u8,
}

fn main() {}
