use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(skip)]
    Linear(u8),
}

fn main() {}
