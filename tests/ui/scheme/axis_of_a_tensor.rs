use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = "per-tensor-symmetric-int8:axis=0")]
    inner: u8,
}

fn main() {}
