use quant::Module;

struct Foreign;

#[derive(Module)]
struct Layer(u8, Foreign);

fn main() {}
