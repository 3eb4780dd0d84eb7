const _: () = {
    use model::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Dense {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self { weight: __0 } = self;
            <Param<Vec<f32>> as __M>::walk(__0, &mut __walker.field("weight"));
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self { weight: __0 } = self;
            <Param<Vec<f32>> as __M>::walk_mut(__0, &mut __walker.field("weight"));
        }
    }
};
