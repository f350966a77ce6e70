//! Runs a program that is handed the processes which its own leave behind, as process 1 of a container is:
//! `subreaper PROGRAM ARGUMENTS`.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};
use rustix::process::{getpid, set_child_subreaper};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("PROGRAM ARGUMENTS")?;
    set_child_subreaper(Some(getpid()))?;
    Err(Command::new(program).args(arguments).exec().into())
}
