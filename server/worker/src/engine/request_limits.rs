//! What a request is held against once its tokens are known, before it waits for the engine.

use std::time::{Duration, Instant};

use hangar_worker_protocol::v1::RequestBounds;
use tonic::Status;

use crate::{grpc_error, stats::Stats};

/// Limits of one request.
#[derive(Debug, Default)]
pub(super) struct RequestLimits {
    /// When its caller gives up.
    deadline: Option<Instant>,
    /// Length of a prompt that has ended a worker, and how.
    fatal: Option<(u64, String)>,
}

impl RequestLimits {
    /// What the server says, which has just come.
    pub(super) fn of(bounds: Option<RequestBounds>) -> Result<Self, Status> {
        let bounds = bounds.unwrap_or_default();
        let left = bounds.time_left.map(Duration::try_from).transpose();
        let left = left.map_err(|_| grpc_error::invalid_field("time_left", "is negative"))?;
        let fatal = bounds.fatal_prompt_tokens;
        Ok(Self {
            deadline: left.and_then(|left| Instant::now().checked_add(left)),
            fatal: (fatal > 0).then_some((fatal, bounds.fatal_reason)),
        })
    }

    /// Refuses prompts of these lengths in tokens, which are read one after the other, if one of them is as long
    /// as what has ended a worker, or if they are known to take longer than their caller waits.
    pub(super) fn check(&self, prompts: &[usize], stats: &Stats) -> Result<(), Status> {
        let longest = prompts.iter().copied().max().unwrap_or(0) as u64;
        if let Some((fatal, reason)) = &self.fatal
            && longest >= *fatal
        {
            return Err(grpc_error::prompt_too_large(longest, *fatal, reason));
        }
        let Some(deadline) = self.deadline else {
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let all = prompts.iter().sum::<usize>() as u64;
        match stats.too_slow(all, longest, left) {
            Some(slow) => Err(grpc_error::deadline_too_short(all, slow, left)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic_types::StatusExt;

    use super::*;

    fn refusal(bounds: RequestBounds, prompts: &[usize], stats: &Stats) -> Option<String> {
        let bounds = RequestLimits::of(Some(bounds)).expect("bounds");
        let status = bounds.check(prompts, stats).err()?;
        Some(status.get_details_error_info()?.reason)
    }

    #[bounded::test]
    fn a_prompt_as_long_as_one_that_ended_a_worker_is_refused() {
        let stats = Stats::default();
        let bounds = || RequestBounds {
            fatal_prompt_tokens: 100,
            fatal_reason: "WORKER_HUNG".into(),
            ..RequestBounds::default()
        };
        assert_eq!(refusal(bounds(), &[99, 99], &stats), None);
        let refused = refusal(bounds(), &[1, 100], &stats);
        assert_eq!(refused.as_deref(), Some("PROMPT_TOO_LARGE"));
        assert_eq!(refusal(RequestBounds::default(), &[100], &stats), None);
    }

    #[bounded::test]
    fn without_a_deadline_or_a_pace_nothing_is_too_slow() {
        let stats = Arc::new(Stats::default());
        let none = || RequestBounds {
            time_left: Some(prost_types::Duration::default()),
            ..RequestBounds::default()
        };
        assert_eq!(refusal(none(), &[1000], &stats), None);
        for _ in 0..3 {
            stats.begin(1000).reading().step();
        }
        let refused = refusal(none(), &[1000], &stats);
        assert_eq!(refused.as_deref(), Some("DEADLINE_TOO_SHORT"));
        assert_eq!(refusal(RequestBounds::default(), &[1000], &stats), None);
    }
}
