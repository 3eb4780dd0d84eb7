const _: () = {
    use ::quant as __quant;
    use __quant::Module as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Never {
        fn walk(&self, __walker: &mut __quant::Walker<'_>) {
            match *self {}
        }
        fn walk_mut(&mut self, __walker: &mut __quant::WalkerMut<'_>) {
            match *self {}
        }
    }
};
