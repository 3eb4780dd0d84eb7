use quant::Module;

#[derive(Module)]
struct Layer {
    activation: fn(u8) -> u8,
}

fn main() {}
