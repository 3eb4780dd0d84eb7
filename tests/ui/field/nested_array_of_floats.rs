use quant::Module;

#[derive(Module)]
struct Layer {
    weight: [[f32; 4]; 2],
}

fn main() {}
