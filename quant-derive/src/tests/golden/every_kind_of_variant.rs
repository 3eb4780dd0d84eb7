enum Layer {
    None,
    Linear(Linear, #[module(skip)] String),
    #[module(rename = "c")]
    Conv {
        weight: Param<[f32; 9]>,
        #[module(rename = "b")]
        bias: Param<f32>,
        r#type: u8,
    },
}
