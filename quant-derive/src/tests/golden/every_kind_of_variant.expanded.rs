const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Layer {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            match self {
                Self::None {} => {}
                Self::Linear { 0: __1, 1: _ } => {
                    <Linear as __M>::walk(__1, &mut __walker.field("Linear.0"));
                }
                Self::Conv { weight: __4, bias: __5, r#type: __6 } => {
                    <Param<[f32; 9]> as __M>::walk(__4, &mut __walker.field("c.weight"));
                    <Param<f32> as __M>::walk(__5, &mut __walker.field("c.b"));
                    <u8 as __M>::walk(__6, &mut __walker.field("c.type"));
                }
            }
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            match self {
                Self::None {} => {}
                Self::Linear { 0: __1, 1: _ } => {
                    <Linear as __M>::walk_mut(__1, &mut __walker.field("Linear.0"));
                }
                Self::Conv { weight: __4, bias: __5, r#type: __6 } => {
                    <Param<
                        [f32; 9],
                    > as __M>::walk_mut(__4, &mut __walker.field("c.weight"));
                    <Param<f32> as __M>::walk_mut(__5, &mut __walker.field("c.b"));
                    <u8 as __M>::walk_mut(__6, &mut __walker.field("c.type"));
                }
            }
        }
    }
};
