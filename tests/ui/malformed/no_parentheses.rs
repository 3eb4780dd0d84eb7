use quant::Module;

#[derive(Module)]
struct Layer {
    #[module]
    inner: u8,
}

fn main() {}
