const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl<K, V: FloatTensor> __M for Tree<K, V>
    where
        Param<V>: __M,
        K: __M,
    {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self { leaf: __0, children: __1, named: __2 } = self;
            <Param<V> as __M>::walk(__0, &mut __walker.field("leaf"));
            <Vec<Tree<K, V>> as __M>::walk(__1, &mut __walker.field("children"));
            <BTreeMap<
                String,
                (K, Box<Self>),
            > as __M>::walk(__2, &mut __walker.field("named"));
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self { leaf: __0, children: __1, named: __2 } = self;
            <Param<V> as __M>::walk_mut(__0, &mut __walker.field("leaf"));
            <Vec<Tree<K, V>> as __M>::walk_mut(__1, &mut __walker.field("children"));
            <BTreeMap<
                String,
                (K, Box<Self>),
            > as __M>::walk_mut(__2, &mut __walker.field("named"));
        }
    }
};
