use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = "per-block-affine-int4:len=0")]
    inner: u8,
}

fn main() {}
