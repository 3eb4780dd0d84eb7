use quant::Module;

#[derive(Module)]
enum Layer {
    #[module(rename = "a")]
    #[module(rename = "a")]
    Linear(u8),
}

fn main() {}
