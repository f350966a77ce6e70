//! Where the sources are.

use std::path::{Path, PathBuf};

/// The root of the workspace.
///
/// Cargo says it when it runs a test. What it said when the test was compiled may be the path of another checkout
/// that built in the same target directory.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = |package: &PathBuf| package.join("../client/Cargo.toml").exists();
    let package = package.filter(here);
    let package = package.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf());
    package.join("..")
}

/// This package.
pub fn tests_package() -> PathBuf {
    workspace().join("tests")
}
