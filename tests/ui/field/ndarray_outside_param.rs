use quant::Module;

#[derive(Module)]
struct Layer {
    weight: ndarray::Array2<f32>,
}

fn main() {}
