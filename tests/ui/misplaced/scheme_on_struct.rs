use quant::Module;

#[derive(Module)]
#[module(scheme = "per-tensor-symmetric-int8")]
struct Layer {
    inner: u8,
}

fn main() {}
