use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = "int8")]
    inner: u8,
}

fn main() {}
