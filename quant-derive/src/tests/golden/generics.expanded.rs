const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl<'a, L: Layer, T: FloatTensor, const N: usize> __M for Net<'a, L, T, N>
    where
        L: Clone,
        [L; N]: __M,
        Param<T>: __M,
    {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self {
                name: __0,
                layers: __1,
                scale: __2,
                shift: __3,
                width: __4,
                cache: _,
            } = self;
            <&'a str as __M>::walk(__0, &mut __walker.field("name"));
            <[L; N] as __M>::walk(__1, &mut __walker.field("layers"));
            <Param<T> as __M>::walk(__2, &mut __walker.field("scale"));
            <Param<T> as __M>::walk(__3, &mut __walker.field("shift"));
            <usize as __M>::walk(__4, &mut __walker.field("width"));
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self {
                name: __0,
                layers: __1,
                scale: __2,
                shift: __3,
                width: __4,
                cache: _,
            } = self;
            <&'a str as __M>::walk_mut(__0, &mut __walker.field("name"));
            <[L; N] as __M>::walk_mut(__1, &mut __walker.field("layers"));
            <Param<T> as __M>::walk_mut(__2, &mut __walker.field("scale"));
            <Param<T> as __M>::walk_mut(__3, &mut __walker.field("shift"));
            <usize as __M>::walk_mut(__4, &mut __walker.field("width"));
        }
    }
};
