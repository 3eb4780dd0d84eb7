use quant::Module;

#[derive(Module)]
struct Layer {
    range: (u8, f32),
}

fn main() {}
