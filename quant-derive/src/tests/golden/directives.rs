struct Layer {
    #[module(quantize)]
    bias: Param<Vec<f32>>,
    #[module(keep)]
    head: Dense,
    #[module(scheme = "per-block-symmetric-int4", rename = "body.0")]
    body: Dense,
    #[module(scheme = INT8)]
    tail: Dense,
}
