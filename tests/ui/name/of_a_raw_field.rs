use quant::Module;

#[derive(Module)]
struct Layer {
    r#type: u8,
    #[module(rename = "type")]
    kind: u8,
}

fn main() {}
