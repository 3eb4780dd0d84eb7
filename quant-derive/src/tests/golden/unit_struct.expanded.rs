const _: () = {
    use ::quant as __quant;
    use __quant::Module as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Relu {
        fn walk(&self, __walker: &mut __quant::Walker<'_>) {
            let Self {} = self;
        }
        fn walk_mut(&mut self, __walker: &mut __quant::WalkerMut<'_>) {
            let Self {} = self;
        }
    }
};
