//! The workspace's own binaries, beside the test's.

use std::{ffi::OsStr, path::PathBuf, process::Command, sync::OnceLock};

use anyhow::{Context, Result};

use crate::workspace::workspace;

/// Directory of binaries to use as they are, in place of those that a build makes.
const OVERRIDE: &str = "HANGAR_TESTS_BIN_DIR";

/// Path of one of the workspace's binaries, or of an example as `examples/NAME`. The first call of a process
/// builds them all.
///
/// # Errors
///
/// When the build fails or makes no such binary.
pub fn binary(name: &str) -> Result<PathBuf> {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| prepare().map_err(|error| format!("{error:#}")));
    let directory = directory
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let path = directory.join(name);
    anyhow::ensure!(path.is_file(), "there is no {}", path.display());
    Ok(path)
}

fn prepare() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os(OVERRIDE) {
        return Ok(PathBuf::from(directory).canonicalize()?);
    }
    let directory = build_directory()?;
    bounded::paused(|| build(directory.file_name() == Some(OsStr::new("release"))))?;
    Ok(directory)
}

/// Where Cargo puts the binaries of the profile that this test was built with.
pub(crate) fn build_directory() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let deps = test.parent().context("the test lies nowhere")?;
    let parent = if deps.ends_with("deps") {
        deps.parent()
    } else {
        Some(deps)
    };
    Ok(parent.context("the test lies nowhere")?.to_path_buf())
}

/// Builds what is not up to date, with the same features as `cargo test` in the workspace's root, so
/// that the engine is not built twice.
fn build(release: bool) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace())
        .args(["build", "--workspace", "--bins", "--examples"])
        .args(release.then_some("--release"));
    // `cargo test` tells the test about its own package. Build scripts that look at these variables
    // would run again, and everything behind them, the engine included, would be built anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            command.env_remove(&name);
        }
    }
    let output = command.output().context("running cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "building the binaries failed:\n{errors}"
    );
    Ok(())
}
