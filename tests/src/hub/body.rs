//! Contents as they go out, piece by piece.

use std::{io, sync::Arc};

use axum::body::{Body, Bytes};
use futures::stream;

use super::{Fault, HubState};

/// Largest piece that goes out at once.
const PIECE: u64 = 8 << 10;

struct BodyStream {
    state: Arc<HubState>,
    number: usize,
    whole: Bytes,
    at: u64,
    /// Bytes at which to wait, the last first.
    holds: Vec<u64>,
    /// Where the contents end too early, and how.
    end: Option<(u64, BodyEnd)>,
}

#[derive(Clone, Copy)]
enum BodyEnd {
    Stall,
    Break,
}

/// The contents of `whole` from byte `first` on, as the answer to this request.
pub(super) fn of(
    state: Arc<HubState>,
    number: usize,
    whole: Bytes,
    first: u64,
    fault: Option<Fault>,
) -> Body {
    let (mut holds, end) = match fault {
        Some(Fault::Hold(holds)) => (holds, None),
        Some(Fault::Stall(after)) => (vec![], Some((first + after, BodyEnd::Stall))),
        Some(Fault::Break(after)) => (vec![], Some((first + after, BodyEnd::Break))),
        _ => (vec![], None),
    };
    holds.sort_unstable();
    holds.reverse();
    let sending = BodyStream {
        state,
        number,
        whole,
        at: first,
        holds,
        end,
    };
    Body::from_stream(stream::unfold(sending, |mut sending| async {
        let piece = sending.next().await?;
        Some((piece, sending))
    }))
}

impl BodyStream {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.holds.last() == Some(&self.at) {
            self.holds.pop();
            self.state.released.acquire().await.ok()?.forget();
        }
        match self.end {
            Some((at, BodyEnd::Stall)) if at == self.at => std::future::pending().await,
            Some((at, BodyEnd::Break)) if at == self.at => {
                return Some(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            _ => {}
        }
        let mut to = (self.at + PIECE).min(self.whole.len() as u64);
        let stops = self.holds.last().copied().into_iter();
        for stop in stops.chain(self.end.map(|(at, _)| at)) {
            to = to.min(stop);
        }
        if to <= self.at {
            return None;
        }
        let piece = self.whole.slice(self.at as usize..to as usize);
        if let Some(request) = self.state.inner().requests.get_mut(self.number) {
            request.served += to - self.at;
        }
        self.at = to;
        // Lets what was given before go out, also before a connection that breaks.
        tokio::task::yield_now().await;
        Some(Ok(piece))
    }
}
