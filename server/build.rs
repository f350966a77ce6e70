//! Tells the crate which commit it is built from: `HANGAR_COMMIT` and `HANGAR_VERSION`.
//!
//! The commit is that of the checkout that holds this package, or what the environment variable
//! `HANGAR_COMMIT` says (for builds without a checkout), or empty. It is never that of a repository
//! that merely surrounds the sources.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=HANGAR_COMMIT");
    let commit = std::env::var("HANGAR_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(checkout_commit)
        .unwrap_or_default();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit.get(..12) {
        Some(short) => format!("{version} ({short})"),
        None if commit.is_empty() => version,
        None => format!("{version} ({commit})"),
    };
    println!("cargo::rustc-env=HANGAR_COMMIT={commit}");
    println!("cargo::rustc-env=HANGAR_VERSION={version}");
}

/// Commit of the checkout whose top is the workspace. `None` outside a checkout or without git.
fn checkout_commit() -> Option<String> {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let workspace = package.parent()?.canonicalize().ok()?;
    let top = git(&workspace, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != workspace {
        return None;
    }
    rerun_on_commit(&workspace);
    git(&workspace, &["rev-parse", "--verify", "HEAD"])
}

/// Runs again when the checkout moves to another commit.
fn rerun_on_commit(workspace: &Path) {
    let branch = git(workspace, &["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "logs/HEAD", "packed-refs"];
    for name in names.into_iter().chain(branch.as_deref()) {
        let path = git(workspace, &["rev-parse", "--git-path", name]);
        // A path that does not exist would make the script run on each build.
        if let Some(path) = path.map(|path| workspace.join(path)).filter(|p| p.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// Trimmed output of a git command. `None` when it fails or says nothing.
fn git(workspace: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(workspace)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
