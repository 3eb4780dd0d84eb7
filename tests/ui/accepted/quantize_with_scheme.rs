use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(quantize, scheme = "per-tensor-symmetric-int8")]
    inner: u8,
}

pub fn main() {}
