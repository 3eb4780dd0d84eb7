use quant::Module;

#[derive(Module)]
struct Layer {
    temperature: f64,
}

fn main() {}
