use quant::Module;

struct Foreign;

#[derive(Module)]
#[module(rename = "mlp")]
struct Mlp {
    #[module(skipp)]
    name: Foreign,
    #[module(keep, quantize)]
    first: u8,
    #[module(rename = "first")]
    second: u8,
    #[module(scheme = "int8")]
    third: u8,
    fourth: Foreign,
    fifth: f32,
}

fn main() {}
