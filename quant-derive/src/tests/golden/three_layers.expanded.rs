const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Mlp {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self { fc1: __0, fc2: __1, fc3: __2 } = self;
            <Dense as __M>::walk(__0, &mut __walker.field("fc1"));
            <Dense as __M>::walk(__1, &mut __walker.field("fc2"));
            <Dense as __M>::walk(__2, &mut __walker.field("fc3"));
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self { fc1: __0, fc2: __1, fc3: __2 } = self;
            <Dense as __M>::walk_mut(__0, &mut __walker.field("fc1"));
            <Dense as __M>::walk_mut(__1, &mut __walker.field("fc2"));
            <Dense as __M>::walk_mut(__2, &mut __walker.field("fc3"));
        }
    }
};
