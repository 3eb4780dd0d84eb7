const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Relu {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self {} = self;
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self {} = self;
        }
    }
};
