use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(keep)]
    #[module(scheme = "per-tensor-symmetric-int8")]
    inner: u8,
}

fn main() {}
