const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    static __SCHEME2: __quant::QuantizationScheme = __quant::__private::scheme(
        "per-block-symmetric-int4",
    );
    static __SCHEME3: __quant::QuantizationScheme = const { INT8 };
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Layer {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            let Self { bias: __0, head: __1, body: __2, tail: __3 } = self;
            <Param<
                Vec<f32>,
            > as __M>::walk(
                __0,
                &mut __walker.field_with("bias", __quant::module::Directive::Quantize),
            );
            <Dense as __M>::walk(
                __1,
                &mut __walker.field_with("head", __quant::module::Directive::Keep),
            );
            <Dense as __M>::walk(
                __2,
                &mut __walker
                    .field_with("body.0", __quant::module::Directive::Scheme(__SCHEME2)),
            );
            <Dense as __M>::walk(
                __3,
                &mut __walker
                    .field_with("tail", __quant::module::Directive::Scheme(__SCHEME3)),
            );
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            let Self { bias: __0, head: __1, body: __2, tail: __3 } = self;
            <Param<
                Vec<f32>,
            > as __M>::walk_mut(
                __0,
                &mut __walker.field_with("bias", __quant::module::Directive::Quantize),
            );
            <Dense as __M>::walk_mut(
                __1,
                &mut __walker.field_with("head", __quant::module::Directive::Keep),
            );
            <Dense as __M>::walk_mut(
                __2,
                &mut __walker
                    .field_with("body.0", __quant::module::Directive::Scheme(__SCHEME2)),
            );
            <Dense as __M>::walk_mut(
                __3,
                &mut __walker
                    .field_with("tail", __quant::module::Directive::Scheme(__SCHEME3)),
            );
        }
    }
};
