use quant::Module;

#[derive(Module)]
enum Layer {
    Linear(u8),
    #[module(rename = "Linear")]
    Conv(u8),
}

fn main() {}
