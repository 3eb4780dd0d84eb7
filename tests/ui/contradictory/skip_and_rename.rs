use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skip, rename = "weight")]
    inner: u8,
}

fn main() {}
