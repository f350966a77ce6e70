//! What is to be checked.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
gpu-check checks Hangar on a GPU and prints a table in Markdown. Exit code 1: a check failed.

  --device cuda|cuda:N|cpu  where models are loaded. Default: cuda
  --sizes N[,N]             models to make, in billions of parameters: 1, 3 or 8. Default: 1,8
  --rounds N                loads and unloads after which memory must be back. Default: 100
  --models DIR              where models are written, below a directory that is removed at the end: 2 GB a
                            billion. Default: the directory of temporary files
  --small                   tiny models and few rounds, to see that the check itself works
  --help                    this text

HANGAR_TESTS_BIN_DIR       directory of hangar, hangar-worker and hangar-worker-cuda, and of
                           examples/baseline[-cuda], the engine by itself, to compare speed with
LD_LIBRARY_PATH            where libcudart.so.13, libcublas.so.13, libcublasLt.so.13 and libcurand.so.10 are";

/// What is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// As a spec names it.
    pub(crate) device: String,
    /// Billions of parameters; none for tiny models.
    pub(crate) sizes: Vec<u32>,
    /// Loads and unloads in a row.
    pub(crate) rounds: u32,
    /// Where models are written.
    pub(crate) models: Option<PathBuf>,
    /// Only to see that the check works.
    pub(crate) small: bool,
}

impl Plan {
    /// Reads the arguments. `None`: the help is asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut plan = Self {
            device: "cuda".to_owned(),
            sizes: vec![1, 8],
            rounds: 100,
            models: None,
            small: false,
        };
        let mut rounds = None;
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.with_context(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--small" => plan.small = true,
                "--device" => plan.device = value()?,
                "--sizes" => plan.sizes = sizes(&value()?)?,
                "--models" => plan.models = Some(value()?.into()),
                "--rounds" => rounds = Some(value()?.parse().context("--rounds")?),
                other => bail!("unknown argument {other}"),
            }
        }
        let known = plan.device == "cpu" || plan.device.starts_with("cuda");
        ensure!(known, "--device is cuda, cuda:N or cpu");
        if plan.small {
            plan.sizes.clear();
            plan.rounds = 3;
        }
        plan.rounds = rounds.unwrap_or(plan.rounds);
        Ok(Some(plan))
    }

    /// Whether models are loaded on a GPU.
    pub(crate) fn is_gpu(&self) -> bool {
        self.device != "cpu"
    }
}

fn sizes(text: &str) -> Result<Vec<u32>> {
    text.split(',')
        .map(|size| match size.trim() {
            "1" => Ok(1),
            "3" => Ok(3),
            "8" => Ok(8),
            other => bail!("--sizes: {other:?} is none of 1, 3 and 8"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Plan>> {
        Plan::parse(line.split_whitespace().map(str::to_owned))
    }

    #[hangar_tests::test]
    fn without_arguments_a_gpu_is_checked_with_two_models() -> Result<()> {
        let plan = parse("")?.context("a plan")?;
        assert_eq!((plan.device.as_str(), plan.rounds), ("cuda", 100));
        assert_eq!(plan.sizes, [1, 8]);
        assert!(plan.is_gpu());
        Ok(())
    }

    #[hangar_tests::test]
    fn a_small_check_is_short_unless_asked_otherwise() -> Result<()> {
        let plan = parse("--device cpu --small")?.context("a plan")?;
        assert_eq!((plan.rounds, plan.sizes.len()), (3, 0));
        assert!(!plan.is_gpu());
        let plan = parse("--rounds 7 --small")?.context("a plan")?;
        assert_eq!(plan.rounds, 7);
        Ok(())
    }

    #[hangar_tests::test]
    fn wrong_arguments_are_refused_with_help() {
        for line in [
            "--device tpu",
            "--sizes 2",
            "--rounds",
            "--rounds x",
            "--fast",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--help").is_ok_and(|plan| plan.is_none()));
    }
}
