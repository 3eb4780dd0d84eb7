use quant::Module;

#[derive(Module)]
struct Layer {
    #[module(scheme = quant::QuantizationScheme::PerTensorSymmetric)]
    inner: u8,
}

fn main() {}
