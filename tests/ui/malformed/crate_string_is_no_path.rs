use quant::Module;

#[derive(Module)]
#[module(crate = "my quant")]
struct Layer {
    inner: u8,
}

fn main() {}
