use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(rename = "layer..weight")]
    inner: u8,
}

fn main() {}
