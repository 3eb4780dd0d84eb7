use quant::Module;

#[derive(Module)]
#[module(tag = "kind")]
enum Layer {
    Linear(u8),
}

fn main() {}
