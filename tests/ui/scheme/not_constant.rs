use quant::Module;

fn scheme() -> quant::QuantizationScheme {
    "per-tensor-symmetric-int8".parse().unwrap()
}

#[derive(Module)]
struct Layer {
    #[module(scheme = scheme())]
    inner: u8,
}

fn main() {}
