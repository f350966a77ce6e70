//! Requests that are refused before the engine sees them.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Error, GenerateEvent,
    v1::{ChatMessage, ErrorReason, GenerateRequest, Sampling},
};
use hangar_tests::{
    refusals::{refusal, wrong_fields},
    server::TestServer,
    time_enough::with_time_enough,
};
use tonic::Code;
use tonic_types::StatusExt;

async fn changed(
    server: &TestServer,
    change: impl FnOnce(&mut GenerateRequest),
) -> Result<(), Error> {
    let request = server.greedy("Hello").max_tokens(1);
    request.with(change).text().await.map(|_| ())
}

fn message(role: &str) -> ChatMessage {
    ChatMessage {
        role: role.into(),
        content: "x".into(),
        ..ChatMessage::default()
    }
}

#[hangar_tests::test]
async fn exactly_one_of_prompt_and_messages_is_required() -> Result<()> {
    let server = TestServer::tiny().await?;
    let neither = changed(&server, |request| request.prompt.clear()).await;
    assert_eq!(wrong_fields(neither), ["prompt"]);
    let both = changed(&server, |request| request.messages = vec![message("user")]).await;
    assert_eq!(wrong_fields(both), ["prompt"]);
    Ok(())
}

#[hangar_tests::test]
async fn unknown_roles_are_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    let conversation = async |roles: &[&str]| {
        changed(&server, |request| {
            request.prompt.clear();
            request.messages = roles.iter().map(|role| message(role)).collect();
        })
        .await
    };
    conversation(&["system", "user", "assistant", "tool", "user"]).await?;
    let wrong = conversation(&["user", "robot", "", "User"]).await;
    let fields = ["messages[1].role", "messages[2].role", "messages[3].role"];
    assert_eq!(wrong_fields(wrong), fields);
    Ok(())
}

#[hangar_tests::test]
async fn sampling_out_of_range_is_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    let all = |x: f32| Sampling {
        temperature: Some(x),
        top_p: Some(x),
        top_k: Some(u32::MAX),
        min_p: Some(x),
        frequency_penalty: Some(x),
        presence_penalty: Some(x),
        repetition_penalty: Some(x),
    };
    let fields = [
        "sampling.temperature",
        "sampling.top_p",
        "sampling.min_p",
        "sampling.frequency_penalty",
        "sampling.presence_penalty",
        "sampling.repetition_penalty",
    ];
    for wrong in [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        2.01,
        -2.01,
        f32::MAX,
    ] {
        let answer = changed(&server, |request| request.sampling = Some(all(wrong))).await;
        assert_eq!(wrong_fields(answer), fields, "{wrong}");
    }
    let zero = changed(&server, |request| request.sampling = Some(all(0.0))).await;
    assert_eq!(
        wrong_fields(zero),
        ["sampling.top_p", "sampling.repetition_penalty"]
    );
    for right in [f32::MIN_POSITIVE, 0.5, 1.0] {
        changed(&server, |request| request.sampling = Some(all(right))).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn every_violation_is_reported_at_once() -> Result<()> {
    let server = TestServer::tiny().await?;
    let answer = changed(&server, |request| {
        request.prompt.clear();
        request.sampling.get_or_insert_default().top_p = Some(2.0);
        request.stop = vec![String::new()];
        request.request_id = "x".repeat(129);
        request.timeout = Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        });
    });
    let fields = [
        "prompt",
        "sampling.top_p",
        "stop[0]",
        "request_id",
        "timeout",
    ];
    assert_eq!(wrong_fields(answer.await), fields);
    Ok(())
}

#[hangar_tests::test]
async fn a_timeout_is_a_positive_length_of_time() -> Result<()> {
    let server = TestServer::tiny().await?;
    for (seconds, nanos) in [
        (0, 0),
        (-1, 0),
        (i64::MIN, 0),
        (i64::MAX, 0),
        (0, -5),
        (604_801, 0),
    ] {
        let timeout = Some(prost_types::Duration { seconds, nanos });
        let answer = changed(&server, |request| request.timeout = timeout).await;
        assert_eq!(wrong_fields(answer), ["timeout"], "{seconds} s {nanos} ns");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_model_is_not_found_and_the_error_lists_known_ones() -> Result<()> {
    let server = TestServer::tiny().await?;
    let client = &server.client;
    let answers = [
        client
            .generate("other")
            .prompt("x")
            .text()
            .await
            .map(|_| ()),
        client.tokenize("other", "x").send().await.map(|_| ()),
        client.detokenize("other", [1]).send().await.map(|_| ()),
    ];
    for answer in answers {
        let refusal = refusal(answer, Code::NotFound, ErrorReason::ModelNotFound);
        let metadata = &refusal.details().metadata;
        assert_eq!(metadata["model_id"], "other");
        assert_eq!(metadata["known_model_ids"], "m");
        let resource = refusal.status().get_details_resource_info();
        assert_eq!(resource.context("ResourceInfo")?.resource_name, "other");
    }
    Ok(())
}

#[hangar_tests::test]
async fn ids_of_wrong_form_are_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    let client = &server.client;
    for id in [
        "",
        ".m",
        "a//b",
        "a/../b",
        "m/",
        "m ",
        "\u{e9}",
        &"x".repeat(129),
    ] {
        let answers = [
            client.generate(id).prompt("x").text().await.map(|_| ()),
            client.tokenize(id, "x").send().await.map(|_| ()),
            client.detokenize(id, [1]).send().await.map(|_| ()),
        ];
        for answer in answers {
            assert_eq!(wrong_fields(answer), ["model_id"], "{id:?}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_error_ends_the_stream() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    let mut stream = with_time_enough(Duration::from_millis(50), async |limit| {
        let request = server.greedy("Hello").timeout(limit);
        Ok(request.stream().await.ok())
    })
    .await?;
    let mut ended = false;
    while let Some(event) = stream.next().await {
        assert!(!ended, "{event:?} came after the end");
        ended = !matches!(event, Ok(GenerateEvent::Chunk(_)));
    }
    assert!(ended);
    Ok(())
}
