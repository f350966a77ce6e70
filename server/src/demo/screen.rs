//! What the demonstration shows: text on standard output, a progress bar on a terminal's standard error.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::Duration,
};

use bytesize::ByteSize;
use hangar_client::v1::{GenerateDone, ModelInfo, ModelStatus, ModelUnload};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The person's screen.
pub(super) struct Screen {
    steps: Cell<u32>,
    styled: bool,
}

/// How a load gets on: a bar on a terminal, a line per state elsewhere.
pub(super) struct LoadBar {
    bar: ProgressBar,
    terminal: bool,
    last: RefCell<String>,
}

/// Steps of the bar.
const WIDTH: u64 = 1000;

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            steps: Cell::new(0),
            styled: io::stdout().is_terminal(),
        }
    }

    pub(super) fn greeting(&self, listen: SocketAddr) {
        say(&format!("{} listens on {listen}.", self.bold("Hangar")));
    }

    /// A new step, with what it is about.
    pub(super) fn step(&self, title: &str, about: &str) {
        self.steps.set(self.steps.get() + 1);
        say(&format!(
            "\n{} {about}",
            self.bold(&format!("{}. {title}.", self.steps.get()))
        ));
    }

    pub(super) fn progress_bar(&self) -> LoadBar {
        let terminal = io::stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("   {bar:30} {percent:>3} %  {msg}");
        let bar = ProgressBar::with_draw_target(Some(WIDTH), target);
        LoadBar {
            bar: style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)),
            terminal,
            last: RefCell::default(),
        }
    }

    pub(super) fn model(&self, model: &ModelInfo) {
        let metadata = model.metadata.clone().unwrap_or_default();
        let status = model.status.clone().unwrap_or_default();
        let memory = status.memory.unwrap_or_default();
        let rows = [
            ("architecture", metadata.architecture),
            ("parameters", metadata.parameter_count.to_string()),
            (
                "data type",
                metadata
                    .dtype
                    .try_into()
                    .map(dtype)
                    .unwrap_or_default()
                    .to_owned(),
            ),
            ("context", format!("{} tokens", metadata.context_length)),
            ("files", size(metadata.size_bytes)),
            ("load time", seconds(metadata.load_duration)),
            (
                "worker",
                format!(
                    "process {} with {} of memory",
                    status.worker_pid,
                    size(memory.host_bytes)
                ),
            ),
        ];
        for (name, value) in rows {
            say(&format!("   {name:<13} {value}"));
        }
    }

    pub(super) fn question(&self, question: &str) {
        say(&format!("   {} {question}", self.bold("Q:")));
        write("   A: ");
    }

    pub(super) fn chunk(&self, text: &str) {
        write(text);
    }

    pub(super) fn answered(&self, done: &GenerateDone) {
        let usage = done.usage.unwrap_or_default();
        let rate = done
            .timings
            .as_ref()
            .and_then(|timings| timings.tokens_per_second);
        let rate = rate
            .map(|rate| format!(" at {rate:.0} a second"))
            .unwrap_or_default();
        say(&format!(
            "\n      ({} tokens{rate})",
            usage.completion_tokens
        ));
    }

    pub(super) fn unloaded(&self, unload: &ModelUnload) {
        self.step(
            "Unload",
            "UnloadModel answers when the worker is gone, and says what came back.",
        );
        say(&format!(
            "   {} came back in {}; verification: {}",
            size(unload.host_bytes_freed),
            seconds(unload.elapsed),
            unload.verification().as_str_name(),
        ));
    }

    /// All steps are done.
    pub(super) fn played(&self) {
        say("\nEvery step did what it says.");
    }

    /// The server serves on: what to try next.
    pub(super) fn serving(&self, listen: SocketAddr) {
        say(&format!("\n{}", self.bold("Try next, with grpcurl:")));
        let call = format!("grpcurl -plaintext {listen}");
        let with = |body: &str, method: &str| {
            format!("grpcurl -plaintext -d '{body}' {listen} hangar.v1.{method}")
        };
        for line in [
            format!("{call} list"),
            format!("{call} describe hangar.v1.ModelService"),
            with(
                r#"{"model_id":"demo","wait":true}"#,
                "ModelService/LoadModel",
            ),
            with(
                r#"{"model_id":"demo","messages":[{"role":"user","content":"What is 8 + 9?"}]}"#,
                "InferenceService/Generate",
            ),
            format!("{call} hangar.v1.ModelService/GetInfo"),
            format!("{call} hangar.v1.ModelService/WatchStatus"),
            with(r#"{"model_id":"demo"}"#, "ModelService/UnloadModel"),
        ] {
            say(&format!("   {line}"));
        }
        say(&format!("\nStill serving on {listen}; Ctrl-C ends it."));
    }

    fn bold(&self, text: &str) -> String {
        if self.styled {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl LoadBar {
    /// Shows where the load stands.
    pub(super) fn show(&self, status: &ModelStatus) {
        let name = status
            .state()
            .as_str_name()
            .trim_start_matches("MODEL_STATE_")
            .to_owned();
        let ready = status.state() == hangar_client::v1::ModelState::Ready;
        let fraction = status
            .progress
            .as_ref()
            .map_or(f64::from(u8::from(ready)), |progress| progress.fraction);
        self.bar.set_position((fraction * WIDTH as f64) as u64);
        self.bar.set_message(name.clone());
        if !self.terminal && *self.last.borrow() != name {
            say(&format!("   {:>3.0} %  {name}", fraction * 100.0));
        }
        self.last.replace(name);
    }

    /// Leaves the bar as it is.
    pub(super) fn finish(&self) {
        self.bar.abandon();
    }
}

/// A screen that is gone is no reason to fail: the demonstration goes on without it.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn say(line: &str) {
    write(&format!("{line}\n"));
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn seconds(duration: Option<prost_types::Duration>) -> String {
    let duration = duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .unwrap_or_default();
    format!("{:.3} s", duration.as_secs_f64())
}

fn dtype(dtype: hangar_client::v1::DataType) -> &'static str {
    dtype.as_str_name().trim_start_matches("DATA_TYPE_")
}
