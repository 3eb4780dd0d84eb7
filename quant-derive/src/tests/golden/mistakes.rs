struct Layer<T: FloatTensor> {
    #[module(skipp)]
    name: String,
    #[module(keep, quantize)]
    weight: Param<T>,
    bias: Param<T>,
}
