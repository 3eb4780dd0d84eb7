use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(skipp, rename = weight, keep = 1, keep)]
    inner: u8,
}

fn main() {}
