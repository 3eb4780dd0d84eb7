use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = "per-tensor-symmetric-int8", scheme = "per-tensor-affine-int8")]
    inner: u8,
}

fn main() {}
