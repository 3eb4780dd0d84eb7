const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Layer {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self { 0: __0, 1: _, 2: __2 } = self;
            <Param<Vec<f32>> as __M>::walk(__0, &mut __walker.field("0"));
            <Param<f32> as __M>::walk(__2, &mut __walker.field("bias"));
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self { 0: __0, 1: _, 2: __2 } = self;
            <Param<Vec<f32>> as __M>::walk_mut(__0, &mut __walker.field("0"));
            <Param<f32> as __M>::walk_mut(__2, &mut __walker.field("bias"));
        }
    }
};
