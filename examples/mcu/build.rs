//! Where the program lies in the memory of the board; see `memory.x`.

fn main() {
    println!("cargo:rerun-if-changed=memory.x");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
        println!("cargo:rustc-link-arg-bins=-Tlink.x");
        // Sections start where they must, and not on pages of an operating system.
        println!("cargo:rustc-link-arg-bins=--nmagic");
    }
}
