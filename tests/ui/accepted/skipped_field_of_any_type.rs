use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer<T> {
    #[module(skip)]
    scale: f32,
    #[module(skip)]
    inner: Foreign,
    #[module(skip)]
    generic: T,
}

pub fn main() {
    is_module(&Layer { scale: 1.0, inner: Foreign, generic: 1.0f32 });
}

fn is_module(_: &impl Module) {}
