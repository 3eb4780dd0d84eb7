use quant::Module;

#[derive(Module)]
struct View<'a> {
    values: &'a f32,
}

fn main() {}
