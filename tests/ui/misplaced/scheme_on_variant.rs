use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(scheme = "per-tensor-symmetric-int8")]
    Linear(u8),
}

fn main() {}
