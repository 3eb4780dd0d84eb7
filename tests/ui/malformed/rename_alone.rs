use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename)]
    inner: u8,
}

fn main() {}
