use quant::Module;

#[derive(Module)]
struct Layer<#[module(skip)] T> {
    inner: Vec<T>,
}

fn main() {}
