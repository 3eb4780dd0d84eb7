use quant::Module;

#[derive(Module)]
struct Layer {
    #[module("skip")]
    inner: u8,
}

fn main() {}
