use quant::Module;

#[derive(Module)]
struct Layer {
    activation: Box<dyn Fn(u8) -> u8>,
}

fn main() {}
