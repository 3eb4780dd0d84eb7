::core::compile_error! {
    "unknown attribute `skipp`; a field takes `skip`, `rename = \"…\"`, `alias = \"…\"`, `quantize`, `keep`, `scheme = \"…\"`"
}
::core::compile_error! {
    "a field is kept float or quantized: remove `quantize` or `keep`"
}
const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl<T: FloatTensor> __M for Layer<T>
    where
        Param<T>: __M,
    {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self { name: _, weight: __1, bias: __2 } = self;
            <Param<
                T,
            > as __M>::walk(
                __1,
                &mut __walker.field_with("weight", __quant::module::Directive::Quantize),
            );
            <Param<T> as __M>::walk(__2, &mut __walker.field("bias"));
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self { name: _, weight: __1, bias: __2 } = self;
            <Param<
                T,
            > as __M>::walk_mut(
                __1,
                &mut __walker.field_with("weight", __quant::module::Directive::Quantize),
            );
            <Param<T> as __M>::walk_mut(__2, &mut __walker.field("bias"));
        }
    }
};
