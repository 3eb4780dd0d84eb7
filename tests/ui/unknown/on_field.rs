use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skipp)]
    inner: u8,
}

fn main() {}
