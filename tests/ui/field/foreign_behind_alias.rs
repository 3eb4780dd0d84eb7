use quant::Module;

struct Foreign<'a>(&'a u8);
type Alias = Foreign<'static>;

#[derive(Module)]
struct Layer {
    inner: Alias,
}

fn main() {}
