//! That the worker ends, and how: said once, by whoever sees the reason first.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::lifeline::ExitCode;

/// The worker's end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    code: Arc<OnceLock<ExitCode>>,
    begun: CancellationToken,
}

impl Ending {
    /// Begins the end. Only the first reason counts.
    pub(crate) fn begin(&self, code: ExitCode) {
        self.code.get_or_init(|| code);
        self.begun.cancel();
    }

    /// The reason, once the end has begun.
    pub(crate) fn reason(&self) -> Option<ExitCode> {
        self.code.get().copied()
    }

    /// Returns the reason as soon as the end has begun.
    pub(crate) async fn begun(&self) -> ExitCode {
        self.begun.cancelled().await;
        self.reason().unwrap_or(ExitCode::System)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts() {
        let ending = Ending::default();
        assert_eq!(ending.reason(), None);
        ending.begin(ExitCode::EngineDied);
        ending.begin(ExitCode::Asked);
        assert_eq!(ending.begun().await, ExitCode::EngineDied);
    }
}
