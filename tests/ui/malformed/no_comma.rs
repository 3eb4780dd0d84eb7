use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(keep rename = "weight")]
    inner: u8,
}

fn main() {}
