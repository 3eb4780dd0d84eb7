use quant::Module;

#[derive(Module)]
struct Pair<M> {
    first: M,
    second: Vec<M>,
}

fn main() {
    is_module(Pair { first: 1.0f32, second: vec![] });
}

fn is_module(_: impl Module) {}
