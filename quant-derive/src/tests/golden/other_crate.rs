#[module(crate = "model::quant")]
struct Dense {
    weight: Param<Vec<f32>>,
}
