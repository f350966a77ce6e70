//! The progress bar of a load, on standard error; hidden where that is no terminal.

use hangar_client::v1::{ModelState, ModelStatus};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{output, table};

/// Steps of the bar.
const STEPS: u64 = 1000;

/// A progress bar for one load.
pub(crate) struct LoadBar {
    bar: ProgressBar,
    state: ModelState,
}

impl LoadBar {
    pub(crate) fn new(model_id: &str) -> Self {
        let target = if output::is_unattended() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar =
            ProgressBar::with_draw_target(Some(STEPS), target).with_prefix(model_id.to_owned());
        // A template that does not parse leaves the default one.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            state: ModelState::Unspecified,
        }
    }

    /// Shows a status.
    pub(crate) fn show(&mut self, status: &ModelStatus) {
        let state = status.state();
        if let Some(progress) = &status.progress {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            self.bar
                .set_position((progress.fraction.clamp(0.0, 1.0) * STEPS as f64) as u64);
            let text = format!("{} {}", table::state(status), table::progress(progress));
            self.bar.set_message(text);
        } else if state != self.state {
            self.bar.set_message(table::state(status));
        }
        if state == ModelState::Backoff && state != self.state {
            self.bar.println(format!(
                "attempt {} failed: {}",
                status.attempt, status.message
            ));
        }
        self.state = state;
    }
}

impl Drop for LoadBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
