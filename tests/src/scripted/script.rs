//! What a scripted worker does, as a JSON file.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::fault::Fault;

const FILE: &str = "script.json";
const CONFIG: &str = "config.json";
const ATTEMPTS: &str = "attempts";

/// Behaviour of a worker. The default is a worker that does everything right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// What it says on its standard output.
    pub ready: ReadyKind,
    /// Gate to pass before it says that.
    pub ready_gate: Option<String>,
    /// Time to wait before it says that.
    pub ready_after_ms: u64,
    /// Host memory that it says to need, in bytes.
    pub need_host_bytes: u64,
    /// Device memory that it says to need, in bytes.
    pub need_device_bytes: u64,
    /// What it does not say is what it has of its device.
    pub hide_device_use: bool,
    /// Blocks of its KV cache that it says are in use, and all of them.
    pub kv_blocks: (u32, u32),
    /// What Load does.
    pub load: LoadScript,
    /// What Generate does.
    pub generate: GenerateScript,
    /// Processor time that Tokenize takes, which is none of the engine's.
    pub tokenize_work_ms: u64,
    /// What WatchStats does.
    pub stats: StatsKind,
    /// Tokens of prompts in a second that it says to read. Unset: it says nothing.
    pub pace: Option<f64>,
    /// What Shutdown does.
    pub shutdown: ShutdownKind,
    /// SIGTERM is without effect.
    pub ignore_sigterm: bool,
    /// The end of standard input is without effect, and so is the server's death.
    pub ignore_server_death: bool,
    /// What it writes to its standard error before the load goes on.
    pub flood_stderr: Flood,
    /// What it writes to its standard output, after the ready frame and before the load goes on.
    pub flood_stdout: Flood,
    /// Attempts, counted from 1 in the model's directory, that die by `die_with` in the load.
    pub die_on_attempts: Vec<u32>,
    /// How those attempts and `generate.die_after` end.
    pub die_with: Fault,
}

/// What a worker says on its standard output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyKind {
    /// That it is ready.
    #[default]
    Ok,
    /// Nothing.
    Never,
    /// Text that is no frame.
    Garbage,
    /// The beginning of a frame that announces a terabyte.
    Huge,
    /// Half of a frame, then nothing.
    Half,
    /// Nothing, and its end.
    Closed,
    /// That it is ready and speaks another version of the protocol.
    WrongVersion,
    /// That the model's files are not usable.
    Failure {
        /// Name of the reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// Nothing: it ends.
    Die(Fault),
}

/// What Load does, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadScript {
    /// Gate to pass first.
    pub gate: Option<String>,
    /// Time to wait first.
    pub after_ms: u64,
    /// Memory to take and keep, in bytes.
    pub memory_bytes: u64,
    /// Memory to take of the device that it is shown, in bytes.
    pub device_bytes: u64,
    /// Bytes to read, as a load of a GGUF file would. They are announced as the size of the weights.
    pub bytes: u64,
    /// In how many steps to read them. Zero is as one.
    pub steps: u32,
    /// Gate to pass before each step.
    pub step_gate: Option<String>,
    /// How it goes on.
    pub kind: LoadKind,
    /// How many calls break their connection before the engine is built, and how many in the warm-up.
    pub breaks: (u32, u32),
    /// Gate to pass between the engine's being built and its first token.
    pub warm_gate: Option<String>,
}

/// How a load ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadKind {
    /// Well.
    #[default]
    Ok,
    /// Never, at rest.
    Hang,
    /// Never, with a busy thread.
    Spin,
    /// With a failure.
    Fail {
        /// Name of the reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// With the worker.
    Die(Fault),
    /// Never, once the engine is built.
    NeverWarm,
    /// With the worker, once the engine is built.
    DieWarming(Fault),
    /// Without a word.
    EndEarly,
    /// With an error of the call.
    Error,
}

/// What Generate does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateScript {
    /// Memory to take with the first token and to keep, in bytes, in place of what the load took.
    pub memory_bytes: u64,
    /// Length of the answer in tokens, at most `max_tokens` of the request. Unset: that, or 16.
    pub tokens: Option<u32>,
    /// Text of each token; `{i}` is its number, from 0. Empty: `"t{i} "`.
    pub text: String,
    /// Gate to pass before each token.
    pub gate: Option<String>,
    /// Who uses processor time while the gate is closed.
    pub work: WorkKind,
    /// Time between tokens.
    pub token_interval_ms: u64,
    /// After so many tokens nothing more comes, and the engine lets go of the request no more.
    pub hang_after: Option<u32>,
    /// After so many tokens the worker dies.
    pub die_after: Option<u32>,
    /// With so many requests the worker dies, once it has told of them several times.
    pub die_with_requests: Option<u32>,
    /// After so many tokens the call fails with INTERNAL.
    pub error_after: Option<u32>,
    /// After so many tokens the call fails with more words than headers take, which breaks its connection.
    pub long_error_after: Option<u32>,
    /// After so many tokens the stream ends without a last message.
    pub end_after: Option<u32>,
    /// After so many tokens a response comes that is neither a chunk nor the end.
    pub nothing_after: Option<u32>,
}

/// Who uses processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// Nobody.
    #[default]
    Nobody,
    /// A thread of the worker.
    Thread,
    /// A child of the worker.
    Child,
}

/// What WatchStats does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatsKind {
    /// Tells what is so.
    #[default]
    Ok,
    /// Never says anything.
    Silent,
    /// Ends after the first message.
    Stop,
    /// Steps rise although nothing is done.
    Busy,
}

/// What Shutdown does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownKind {
    /// Answers; the worker ends.
    #[default]
    Ok,
    /// Answers; the worker stays.
    Ignore,
    /// Never answers.
    Hang,
    /// The worker dies without an answer.
    Die,
}

/// Output nobody asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// How much of it.
    pub bytes: u64,
    /// Length of a line. Zero: no line ends.
    pub line: u32,
}

impl Script {
    /// Does everything right, and waits where a test has made a gate: "ready" in STARTING, "load" in
    /// LOADING, "warm" in WARMING, and "token" before each token.
    pub fn gated() -> Self {
        Self {
            ready_gate: Some("ready".into()),
            load: LoadScript {
                gate: Some("load".into()),
                warm_gate: Some("warm".into()),
                ..LoadScript::default()
            },
            generate: GenerateScript {
                gate: Some("token".into()),
                ..GenerateScript::default()
            },
            ..Self::default()
        }
    }

    /// Needs and takes so many bytes of its device.
    pub fn on_device(bytes: u64) -> Self {
        Self {
            need_device_bytes: bytes,
            load: LoadScript {
                device_bytes: bytes,
                ..LoadScript::default()
            },
            ..Self::default()
        }
    }

    /// Does everything right but the load, which ends in this way.
    pub fn loading(kind: LoadKind) -> Self {
        Self {
            load: LoadScript {
                kind,
                ..LoadScript::default()
            },
            ..Self::default()
        }
    }

    /// Does everything right but the answers.
    pub fn generating(generate: GenerateScript) -> Self {
        Self {
            generate,
            ..Self::default()
        }
    }

    /// Writes `script.json` into a model's directory, and what makes it one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        std::fs::write(directory.join(CONFIG), "{}")?;
        Ok(std::fs::write(
            directory.join(FILE),
            serde_json::to_vec_pretty(self)?,
        )?)
    }

    /// Reads `script.json` from a model's directory.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not a script.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let json = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("parsing {}", path.display()))
    }
}

/// Counts an attempt in the model's directory and gives its number, from 1.
pub(super) fn count_attempt(directory: &Path) -> Result<u32> {
    let path = directory.join(ATTEMPTS);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let attempt = before.trim().parse().unwrap_or(0) + 1;
    std::fs::write(&path, format!("{attempt}"))?;
    Ok(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[hangar_tests::test]
    fn a_script_survives_its_file() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let script = Script {
            ready: ReadyKind::Die(Fault::Exit(3)),
            load: LoadScript {
                kind: LoadKind::Fail {
                    reason: "MODEL_UNUSABLE".into(),
                    message: "no".into(),
                },
                ..LoadScript::default()
            },
            die_on_attempts: vec![1, 2],
            ..Script::default()
        };
        script.write(directory.path())?;
        assert_eq!(Script::read(directory.path())?, script);
        Ok(())
    }

    #[hangar_tests::test]
    fn a_short_script_is_enough() -> Result<()> {
        let script: Script = serde_json::from_str(r#"{"load":{"kind":"hang"},"ready":"never"}"#)?;
        assert_eq!(script.load.kind, LoadKind::Hang);
        assert_eq!(script.ready, ReadyKind::Never);
        Ok(())
    }

    #[hangar_tests::test]
    fn attempts_are_counted() -> Result<()> {
        let directory = tempfile::tempdir()?;
        assert_eq!(count_attempt(directory.path())?, 1);
        assert_eq!(count_attempt(directory.path())?, 2);
        Ok(())
    }
}
