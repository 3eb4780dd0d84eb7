use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(crate = quant)]
    Linear(u8),
}

fn main() {}
