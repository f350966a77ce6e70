//! A service that takes large requests by some of its methods only.

use std::task::{Context, Poll};

use tonic::server::NamedService;
use tower::Service;

/// The same service twice, with limits of its own each.
#[derive(Clone, Debug)]
pub(super) struct LargeRequests<S> {
    /// Full names of those methods.
    pub(super) methods: &'static [&'static str],
    /// Serves them.
    pub(super) large: S,
    /// Serves all others.
    pub(super) small: S,
}

impl<S: NamedService> NamedService for LargeRequests<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for LargeRequests<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        std::task::ready!(self.large.poll_ready(context))?;
        self.small.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        let method = request.uri().path().strip_prefix('/');
        match method.is_some_and(|method| self.methods.contains(&method)) {
            true => self.large.call(request),
            false => self.small.call(request),
        }
    }
}
