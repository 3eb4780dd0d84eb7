use quant::Module;

#[derive(Module)]
#[module(rename = "number")]
union Number {
    int: u32,
    bits: [u8; 4],
}

fn main() {}
