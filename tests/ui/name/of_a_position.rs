use quant::Module;

#[derive(Module)]
struct Layer(#[module(rename = "1")] u8, u16);

fn main() {}
