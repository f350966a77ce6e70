//! Requests on their way into a server: the one place that bounds what becomes of them when they are decoded.
//!
//! An empty message in a list is two bytes on the wire and hundreds in memory, so that a limit on the size of requests
//! alone bounds no memory.
//!
//! Invariant: a request whose parts take more than [`MAX_DECODED`] is refused before any of it is decoded.

mod cost;

use std::{fmt, marker::PhantomData, sync::Arc};

use cost::Counter;
use prost::{Message, Name, bytes::Buf};
use tokio::task_local;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::ERROR_DOMAIN;

/// Most memory of a request's parts in bytes, as it is estimated: its messages, the places of its texts and its numbers,
/// but not what is in the texts, which has a limit of its own.
pub const MAX_DECODED: usize = 64 << 20;

/// Where the memory of a call's requests comes from.
pub trait RequestBudget: Send + Sync {
    /// Takes the bytes of a message, and those of what becomes of it.
    ///
    /// # Errors
    ///
    /// When there are not so many left, as the caller is to hear it.
    fn take_request(&self, message: usize, parts: usize) -> Result<(), Status>;
}

task_local! {
    /// Of the call that is under way.
    static BUDGET: Arc<dyn RequestBudget>;
}

/// What `call` comes to, whose requests, as far as it decodes them itself, take their memory from `budget`.
pub async fn within_budget<F: Future>(budget: Arc<dyn RequestBudget>, call: F) -> F::Output {
    BUDGET.scope(budget, call).await
}

/// Where the requests of the call that is under way take their memory from: kept by what outlives the call with its request.
pub fn budget() -> Option<Arc<dyn RequestBudget>> {
    BUDGET.try_with(Arc::clone).ok()
}

/// The codec of the generated servers: [`ProstCodec`], with requests decoded by [`BoundedDecoder`].
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

/// Decodes messages of the type `U`, unless they take too much memory.
pub struct BoundedDecoder<U> {
    inner: ProstDecoder<U>,
    counter: Counter,
}

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for BoundedCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundedCodec")
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder::default()
    }
}

impl<U: Name> Default for BoundedDecoder<U> {
    fn default() -> Self {
        Self {
            inner: ProstDecoder::default(),
            counter: Counter::of(&U::full_name()),
        }
    }
}

impl<U> fmt::Debug for BoundedDecoder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedDecoder").finish_non_exhaustive()
    }
}

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The message lies there in one piece.
        let message = buffer.chunk();
        let cost = self.counter.cost(message, MAX_DECODED);
        let too_large = |field| too_large(self.counter.field_name(field));
        let parts = cost.map_err(too_large)? + size_of::<U>();
        let take = |budget: &Arc<dyn RequestBudget>| budget.take_request(message.len(), parts);
        BUDGET.try_with(take).unwrap_or(Ok(()))?;
        self.inner.decode(buffer)
    }
}

/// `field` is the one in which the limit is reached.
fn too_large(field: Option<&'static str>) -> Status {
    let limit = [("limit".to_owned(), MAX_DECODED.to_string())];
    let mut details = ErrorDetails::with_error_info("MESSAGE_TOO_LARGE", ERROR_DOMAIN, limit);
    if let Some(field) = field {
        details.add_bad_request_violation(field, "has too many parts");
    }
    Status::with_error_details(
        Code::ResourceExhausted,
        "the request has too many parts: its lists take more than 64 MiB of memory",
        details,
    )
}
