use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(keep(float))]
    inner: u8,
}

fn main() {}
