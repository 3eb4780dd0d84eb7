struct Mlp {
    fc1: Dense,
    fc2: Dense,
    fc3: Dense,
}
