use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = "a", rename = "b")]
    inner: u8,
}

fn main() {}
