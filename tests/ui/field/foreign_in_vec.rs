use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer {
    inner: Vec<Foreign>,
}

fn main() {}
