use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = b"weight")]
    inner: u8,
}

fn main() {}
