//! Who has memory, and when it is given back.

use std::convert::Infallible;

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use tonic::Code;

use super::{call_memory::UNIT, *};

const LIMIT: usize = 4 * UNIT;

fn memory() -> RequestMemory {
    RequestMemory::new(LIMIT)
}

fn call(memory: &RequestMemory) -> CallMemory {
    CallMemory::new(memory.clone())
}

#[test]
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

/// A body with the head of a message of this length, and no more.
fn body(
    memory: &RequestMemory,
    length: usize,
) -> RequestBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
    let announced = u32::try_from(length).expect("a length").to_be_bytes();
    let head = Bytes::from([&[0][..], &announced].concat());
    let frames = stream::iter([Ok(Frame::data(head))]).chain(stream::pending());
    RequestBody {
        inner: StreamBody::new(frames),
        announced: Announced::default(),
        claim: 0,
        max_request_bytes: LIMIT,
        call: Arc::new(call(memory)),
        pause: Some(Pause::new(Duration::from_millis(20))),
    }
}

#[test]
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

#[tokio::test]
async fn a_message_has_memory_from_its_head_on_or_is_refused() {
    let memory = memory();
    let mut first = body(&memory, 3 * UNIT);
    first.frame().await.expect("a frame").expect("memory");
    assert_eq!(memory.free.available_permits(), 1);
    let refused = body(&memory, 2 * UNIT).frame().await.expect("an end");
    let refused = refused.expect_err("no memory");
    let refused = refused.downcast::<Status>().expect("a status");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let mut too_long = body(&memory, LIMIT + 1);
    too_long
        .frame()
        .await
        .expect("a frame")
        .expect("refused as it is");
    drop(first);
    assert_eq!(memory.free.available_permits(), 4);
}

#[tokio::test]
async fn a_message_that_does_not_go_on_ends() {
    let memory = memory();
    let mut body = body(&memory, UNIT);
    body.frame().await.expect("a frame").expect("memory");
    assert!(body.frame().await.is_some_and(|end| end.is_err()));
}
