//! Small C programs and libraries, with the compiler that building the server needs anyway.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

/// The shared library of this name that C `source` makes.
///
/// # Errors
///
/// When it does not compile, or there is no compiler.
pub fn library(source: &str, name: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let output = directory.path().join(name);
    let soname = format!("-Wl,-soname,{name}");
    let arguments = ["-shared", "-fPIC", "-O1", &soname];
    compile(source, &output, &arguments, &[])?;
    Ok(fs::read(output)?)
}

/// Makes the program `output`, which needs the library `needs` at run time and does not start without it.
///
/// # Errors
///
/// When it does not compile, or there is no compiler.
pub fn program(output: &Path, needs: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let library_file = directory.path().join(needs);
    fs::write(
        &library_file,
        library("int needed(void) { return 0; }", needs)?,
    )?;
    let source = "int needed(void); int main(void) { return needed(); }";
    compile(source, output, &[], &[&library_file])
}

fn compile(source: &str, output: &Path, flags: &[&str], libraries: &[&Path]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("source.c");
    fs::write(&file, source)?;
    let compiled = Command::new("cc")
        .args(flags)
        .arg("-o")
        .arg(output)
        .arg(&file)
        .args(libraries)
        .arg("-ldl")
        .output()
        .context("running cc")?;
    let errors = String::from_utf8_lossy(&compiled.stderr);
    anyhow::ensure!(compiled.status.success(), "cc: {errors}");
    Ok(())
}
