use quant::Module;

#[derive(Module)]
struct Layer {
    scale: Option<f32>,
}

fn main() {}
