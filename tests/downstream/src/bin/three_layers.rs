//! The struct whose expansion is counted.

use quant::{Module, Param};

#[derive(Module)]
struct Mlp {
    fc1: Dense,
    fc2: Dense,
    fc3: Dense,
}

#[derive(Module)]
struct Dense {
    weight: Param<Vec<f32>>,
    bias: Param<Vec<f32>>,
}

fn main() {
    let dense = || Dense { weight: Param::new(vec![0.0; 4]), bias: Param::new(vec![0.0; 2]) };
    let mlp = Mlp { fc1: dense(), fc2: dense(), fc3: dense() };
    println!("{}", mlp.num_params());
}
