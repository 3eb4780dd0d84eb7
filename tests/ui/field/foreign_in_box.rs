use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer {
    inner: Option<Box<Foreign>>,
}

fn main() {}
