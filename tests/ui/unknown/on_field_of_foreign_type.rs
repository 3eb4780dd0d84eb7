use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer {
    #[module(skipp)]
    inner: Foreign,
}

fn main() {}
