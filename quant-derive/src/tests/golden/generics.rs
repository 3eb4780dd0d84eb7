struct Net<'a, L: Layer, T: FloatTensor = Vec<f32>, const N: usize = 2>
where
    L: Clone,
{
    name: &'a str,
    layers: [L; N],
    scale: Param<T>,
    shift: Param<T>,
    width: usize,
    #[module(skip)]
    cache: Option<T>,
}
