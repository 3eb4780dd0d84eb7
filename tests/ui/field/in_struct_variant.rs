use quant::Module;

struct Foreign;

#[derive(Module)]
enum Layer {
    Some { size: usize, inner: Foreign },
}

fn main() {}
