use quant::Module;

#[derive(Module)]
struct Layer {
    layers: std::collections::HashMap<String, u8>,
}

fn main() {}
