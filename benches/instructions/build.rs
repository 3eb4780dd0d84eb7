//! Tells the program which compiler it is built with: counts of two compilers are not comparable.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").expect("cargo sets it");
    let output = Command::new(rustc).arg("--version").output().expect("cargo has run it");
    let line = String::from_utf8_lossy(&output.stdout);
    let version = line.split(' ').nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=INSTRUCTIONS_RUSTC={version}");
    println!("cargo::rerun-if-changed=build.rs");
}
