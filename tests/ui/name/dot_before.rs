use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = ".weight")]
    inner: u8,
}

fn main() {}
