use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(rename = "")]
    Linear(u8),
}

fn main() {}
