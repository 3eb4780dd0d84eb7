use quant::Module;

#[derive(Module)]
#[module(crate = quant,)]
struct Layer {
    #[module(keep, rename = "weight",)]
    inner: u8,
}

pub fn main() {}
