use quant::Module;

#[derive(Module)]
struct Layer {
    temperature: f32,
}

fn main() {}
