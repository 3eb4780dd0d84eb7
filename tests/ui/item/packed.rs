use quant::Module;

#[derive(Module)]
#[repr(C, packed)]
struct Layer {
    small: u8,
    large: u32,
}

fn main() {}
