const _: () = {
    use ::quant as __quant;
    use __quant::module::Walk as __M;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __M for Model {
        fn walk(&self, __walker: &mut __quant::module::Walker<'_>) {
            match self {
                Self::Text { embed: __0 } => {
                    __walker.alias("Text.embed", "Text.lm_head");
                    <Embedding as __M>::walk(__0, &mut __walker.field("Text.embed"));
                }
                Self::Table { 0: __2 } => {
                    __walker.alias("Table.table", "Table.head.out");
                    <Embedding as __M>::walk(
                        __2,
                        &mut __walker
                            .field_with("Table.table", __quant::module::Directive::Keep),
                    );
                }
            }
        }
        fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) {
            match self {
                Self::Text { embed: __0 } => {
                    <Embedding as __M>::walk_mut(__0, &mut __walker.field("Text.embed"));
                }
                Self::Table { 0: __2 } => {
                    <Embedding as __M>::walk_mut(
                        __2,
                        &mut __walker
                            .field_with("Table.table", __quant::module::Directive::Keep),
                    );
                }
            }
        }
    }
};
