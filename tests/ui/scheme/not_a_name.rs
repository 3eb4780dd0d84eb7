use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = "int9")]
    inner: u8,
}

fn main() {}
