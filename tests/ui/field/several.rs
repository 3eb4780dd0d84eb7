use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer {
    scale: f32,
    inner: Foreign,
    size: usize,
    weight: Vec<f32>,
}

fn main() {}
