//! Tells the crate its version, without a commit: it changes with every commit, and nobody installs this.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=HANGAR_COMMIT=");
    println!("cargo::rustc-env=HANGAR_VERSION={version}");
}
