//! One method of a script: what it answers, and what it was asked.

use std::collections::VecDeque;

use tokio::sync::watch;
use tonic::{Request, Status};

use super::{Answer, missing};

/// Answers that are left of a method, and requests that it got.
#[derive(Debug)]
pub(crate) struct Asked<Q, A> {
    pub(crate) answers: VecDeque<Result<A, Status>>,
    pub(crate) requests: Vec<Q>,
    count: watch::Sender<usize>,
}

impl<Q, A> Asked<Q, A> {
    pub(crate) fn with(answers: impl IntoIterator<Item = Result<A, Status>>) -> Self {
        Self {
            answers: answers.into_iter().collect(),
            ..Default::default()
        }
    }

    /// The number of requests that came, as it grows.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    pub(super) fn answer(&mut self, request: Request<Q>) -> Answer<A> {
        self.requests.push(request.into_inner());
        self.count.send_modify(|count| *count += 1);
        let answer = self.answers.pop_front().unwrap_or_else(missing);
        answer.map(tonic::Response::new)
    }
}

impl<Q, A> Default for Asked<Q, A> {
    fn default() -> Self {
        Self {
            answers: VecDeque::new(),
            requests: Vec::new(),
            count: watch::Sender::default(),
        }
    }
}
