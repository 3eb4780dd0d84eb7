use quant::Module;

#[derive(Module)]
#[module()]
struct Layer {
    #[module()]
    inner: u8,
}

pub fn main() {}
