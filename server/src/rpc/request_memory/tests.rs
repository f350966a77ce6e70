//! Who has memory, and when it is given back.

use std::convert::Infallible;

use futures::{StreamExt, stream};
use hangar_client::server_codec::RequestBudget;
use http_body_util::{BodyExt, StreamBody};
use tonic::Code;
use tonic_types::StatusExt;

use super::{call_memory::UNIT, *};

const LIMIT: usize = 4 * UNIT;

const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_hours(1);

fn memory() -> RequestMemory {
    RequestMemory::new(LIMIT)
}

fn call(memory: &RequestMemory) -> CallMemory {
    CallMemory::new(memory.clone())
}

#[bounded::test]
fn what_a_call_takes_is_given_back_at_its_end() {
    let memory = memory();
    let (first, second) = (call(&memory), call(&memory));
    first.take(UNIT - 1).expect("the first bytes are free");
    assert_eq!(memory.free.available_permits(), 4);
    first.take(2 * UNIT + 1).expect("three units");
    let refused = second.take(2 * UNIT).expect_err("one is left");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    second.take(UNIT).expect("one is left");
    first.give_back(UNIT + 1);
    assert_eq!(memory.free.available_permits(), 2);
    drop((first, second));
    assert_eq!(memory.free.available_permits(), 4);
}

/// So many bytes of a longer message.
fn part(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[1] = 255;
    bytes
}

/// A body with a frame of so many bytes of a longer message, and no more.
fn body(
    call: &Arc<CallMemory>,
    length: usize,
    pause: Duration,
) -> RequestBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
    body_of(part(length), call, pause)
}

/// A body with these bytes and no end.
fn body_of(
    bytes: Vec<u8>,
    call: &Arc<CallMemory>,
    pause: Duration,
) -> RequestBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
    let frames = stream::iter([Ok(Frame::data(bytes.into()))]).chain(stream::pending());
    RequestBody {
        inner: StreamBody::new(frames),
        arrivals: Arrivals::new(pause),
        call: call.clone(),
        held: None,
        hold: pause,
    }
}

fn status(end: Option<Result<Frame<Bytes>, BoxError>>) -> Status {
    let error = end.expect("an end").expect_err("no frame");
    *error.downcast().expect("a status")
}

#[bounded::test]
fn what_is_taken_and_given_back_at_the_same_time_leaves_nothing() {
    let memory = memory();
    let call = call(&memory);
    std::thread::scope(|scope| {
        for n in 1..5 {
            let call = &call;
            scope.spawn(move || {
                for _ in 0..10_000 {
                    if call.take(n * UNIT / 2).is_ok() {
                        call.give_back(n * UNIT / 2);
                    }
                }
            });
        }
    });
    assert_eq!(memory.free.available_permits(), 4);
    drop(call);
    assert_eq!(memory.free.available_permits(), 4);
}

#[bounded::test]
async fn what_has_come_has_memory_or_is_refused() {
    let memory = memory();
    let [first, second] = [(); 2].map(|()| Arc::new(call(&memory)));
    let mut held = body(&first, 3 * UNIT, LATE);
    held.frame().await.expect("a frame").expect("memory");
    assert_eq!(memory.free.available_permits(), 1);
    let refused = status(body(&second, 2 * UNIT, LATE).frame().await);
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().is_some());
    let never = status(body(&second, LIMIT + UNIT, LATE).frame().await);
    assert!(never.get_details_retry_info().is_none());
    drop(held);
    assert_eq!(memory.free.available_permits(), 4);
}

#[bounded::test]
async fn a_call_with_many_requests_waits_for_memory() {
    let memory = memory();
    let [first, second] = [(); 2].map(|()| Arc::new(call(&memory)));
    first.take(3 * UNIT).expect("memory");
    second.expect_many();
    let mut waiting = body(&second, 2 * UNIT, LATE);
    assert!(futures::poll!(waiting.frame()).is_pending());
    first.give_back(UNIT);
    waiting.frame().await.expect("a frame").expect("memory");
    let refused = status(body(&second, 3 * UNIT, SOON).frame().await);
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[bounded::test]
async fn a_request_that_does_not_go_on_ends() {
    let memory = memory();
    let [one, many] = [(); 2].map(|()| Arc::new(call(&memory)));
    many.expect_many();
    let whole = || vec![0; 5];
    let mut stream = body_of(whole(), &many, SOON);
    stream.frame().await.expect("a frame").expect("memory");
    // A message that breaks off, and a whole one to which the request's end is missing.
    for bytes in [part(UNIT), whole()] {
        let mut request = body_of(bytes, &one, SOON);
        request.frame().await.expect("a frame").expect("memory");
        let stuck = status(request.frame().await);
        assert_eq!(stuck.code(), Code::DeadlineExceeded);
    }
    assert!(futures::poll!(stream.frame()).is_pending(), "it may pause");
}

#[bounded::test]
fn what_was_unpacked_is_counted_and_a_watch_drops_its_request() {
    let memory = memory();
    let call = call(&memory);
    call.buffer(UNIT).expect("memory");
    call.take_request(UNIT + UNIT / 2, 0).expect("memory");
    assert_eq!(memory.free.available_permits(), 0);
    call.drop_buffers();
    assert_eq!(memory.free.available_permits(), 3);
    call.drop_request();
    assert_eq!(memory.free.available_permits(), 4);
}
