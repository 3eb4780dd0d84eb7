use quant::{Module, Param};

#[derive(Module)]
struct Pair<M> {
    first: M,
    second: Param<M>,
}

fn main() {}
