use quant::Module;

#[derive(Module)]
struct Inner {
    #[module(skipp)]
    name: f32,
}

#[derive(Module)]
struct Outer {
    inner: Inner,
}

fn main() {
    is_module::<Inner>();
    is_module::<Outer>();
}

fn is_module<M: Module>() {}
