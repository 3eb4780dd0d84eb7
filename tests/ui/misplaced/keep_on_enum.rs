use quant::Module;

#[derive(Module)]
#[module(keep)]
enum Layer {
    Linear(u8),
}

fn main() {}
