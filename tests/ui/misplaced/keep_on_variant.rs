use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(keep)]
    Linear(u8),
}

fn main() {}
