use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = 0)]
    inner: u8,
}

fn main() {}
