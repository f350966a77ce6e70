//! Embed, by the client and on the command line.

use std::time::Duration;

use hangar_client::v1::{EmbedResponse, Embedding};
use serde_json::{Value, json};
use tonic::Status;

use crate::{
    hangarctl::{hangarctl, text},
    script::{Asked, Script},
};

fn answer(texts: u16) -> EmbedResponse {
    let embedding = |n: u16| Embedding {
        values: vec![0.6, -0.8, f32::from(n)],
        token_count: 3,
    };
    EmbedResponse {
        embeddings: (0..texts).map(embedding).collect(),
        prompt_tokens: 3 * u32::from(texts),
    }
}

#[bounded::test]
async fn a_call_has_what_was_asked_for_and_is_tried_again() {
    let script = Script::default();
    let gone = Err(Status::unavailable("gone"));
    script.state().embeds = Asked::with([gone, Ok(answer(3))]);
    let (client, _server) = script.serve().await;
    let call = client.embed("e").input("a").inputs(["b", "c"]);
    let call = call.priority(-2).request_id("r");
    let response = call.timeout(Duration::from_secs(9)).send().await.unwrap();
    assert_eq!(response, answer(3));
    let requests = script.state().embeds.requests.clone();
    assert_eq!(requests.len(), 2);
    let request = &requests[1];
    assert_eq!(
        (request.model_id.as_str(), &request.inputs[..]),
        ("e", &["a", "b", "c"].map(str::to_owned)[..])
    );
    assert_eq!((request.priority, request.request_id.as_str()), (-2, "r"));
    assert_eq!(request.timeout.map(|timeout| timeout.seconds), Some(9));
}

#[bounded::test]
async fn people_see_a_line_for_each_text() {
    let script = Script::default();
    script.state().embeds = Asked::with([Ok(answer(2))]);
    let arguments = ["embed", "e", "one text", "-"];
    let output = hangarctl(&script, &arguments, "").await;
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        (
            "[0.6000, -0.8000, 0.0000]  3 numbers, length 1.0000, 3 tokens\n\
             [0.6000, -0.8000, 1.0000]  3 numbers, length 1.4142, 3 tokens\n",
            Some(0)
        )
    );
    let request = script.state().embeds.requests[0].clone();
    assert_eq!(request.inputs, ["one text", "-"]);
    assert_eq!(request.timeout, None);
}

#[bounded::test]
async fn programs_get_all_of_it_for_the_lines_of_standard_input() {
    let script = Script::default();
    script.state().embeds = Asked::with([Ok(answer(1))]);
    let arguments = [
        "embed",
        "e",
        "--timeout",
        "2s",
        "--priority",
        "-1",
        "--json",
    ];
    let output = hangarctl(&script, &arguments, "a\n\nb c\n").await;
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["promptTokens"], 3);
    assert_eq!(printed["embeddings"][0]["tokenCount"], 3);
    assert_eq!(printed["embeddings"][0]["values"][2], json!(0.0));
    let request = script.state().embeds.requests[0].clone();
    assert_eq!(request.inputs, ["a", "b c"]);
    assert_eq!(request.priority, -1);
    assert_eq!(request.timeout.map(|timeout| timeout.seconds), Some(2));
}
