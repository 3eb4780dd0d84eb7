use quant::Module;

#[derive(Module)]
union Number {
    int: u32,
    bits: [u8; 4],
}

fn main() {}
