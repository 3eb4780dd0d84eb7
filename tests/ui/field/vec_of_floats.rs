use quant::Module;

#[derive(Module)]
struct Layer {
    weight: Vec<f32>,
}

fn main() {}
