//! Limits that have to be reached, but not before something else was.

use std::time::Duration;

use anyhow::Result;

use crate::server::DEADLINE;

/// Does `work` with a limit that is long enough on this machine: when it gives nothing, because the limit was reached
/// before all was as the test wants it, it is done again with one that is four times as long.
///
/// # Errors
///
/// Those of `work`; also when [`DEADLINE`] would not have been long enough.
pub async fn with_time_enough<T>(
    shortest: Duration,
    work: impl AsyncFn(Duration) -> Result<Option<T>>,
) -> Result<T> {
    let mut limit = shortest;
    loop {
        if let Some(done) = work(limit).await? {
            return Ok(done);
        }
        anyhow::ensure!(limit < DEADLINE, "{limit:?} are not long enough");
        limit *= 4;
    }
}
