use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = "per-tensor-symmetric-int9")]
    inner: u8,
}

fn main() {}
