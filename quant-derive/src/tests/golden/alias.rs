enum Model {
    Text {
        #[module(alias = "lm_head")]
        embed: Embedding,
    },
    Table(#[module(rename = "table", alias = "head.out", keep)] Embedding),
}
