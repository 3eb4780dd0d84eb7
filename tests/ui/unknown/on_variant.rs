use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(name = "linear")]
    Linear(u8),
}

fn main() {}
