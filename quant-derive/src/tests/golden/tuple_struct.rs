struct Layer(Param<Vec<f32>>, #[module(skip)] f32, #[module(rename = "bias")] Param<f32>);
