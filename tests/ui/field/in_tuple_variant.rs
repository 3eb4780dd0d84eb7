use quant::Module;

struct Foreign;

#[derive(Module)]
enum Layer {
    None,
    Some(u8, Foreign),
}

fn main() {}
