use quant::Module;

const NAME: &str = "per-tensor-symmetric-int8";

#[derive(Module)]
struct Layer {
    #[module(scheme = NAME)]
    inner: u8,
}

fn main() {}
