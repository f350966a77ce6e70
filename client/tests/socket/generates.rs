//! Answers, and how their calls end.

use std::time::Duration;

use hangar_client::{
    GenerateEvent,
    v1::{GenerateChunk, GenerateDone, GenerateResponse},
};
use tokio::{sync::oneshot, time::timeout};

use crate::script::{Script, State};

fn event(event: GenerateEvent) -> GenerateResponse {
    GenerateResponse { event: Some(event) }
}

#[bounded::test]
async fn an_answer_that_was_read_to_its_end_is_not_cancelled() {
    let (mut end, held) = oneshot::channel();
    let chunk = GenerateEvent::Chunk(GenerateChunk {
        text: "a".to_owned(),
        ..GenerateChunk::default()
    });
    let done = GenerateEvent::Done(GenerateDone::default());
    let script = Script::new(State {
        generate: vec![Ok(event(chunk)), Ok(event(done))],
        generate_end: Some(held),
        ..State::default()
    });
    let (client, _server) = script.serve().await;
    let answer = client.generate("m").prompt("x").text();
    let hold = async move {
        // A call that is cancelled drops what holds it back. The time is what a fault has to show itself.
        let cancelled = timeout(Duration::from_millis(200), end.closed()).await;
        assert!(cancelled.is_err(), "the client cancelled the call");
        end.send(()).unwrap();
    };
    let (answer, ()) = futures::join!(answer, hold);
    assert_eq!(answer.unwrap().text, "a");
}
