use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer {
    inner: Foreign,
}

fn main() {}
