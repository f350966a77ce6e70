//! Requests that are refused before the engine sees them.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    Embed, Error,
    v1::{EmbedRequest, EmbedResponse, ErrorReason},
};
use hangar_tests::{
    fixtures::Embedding,
    refusals::{refusal, wrong_fields},
    server::TestServer,
    time_enough::with_time_enough,
};
use tonic::Code;

use super::{Vectors, many};

async fn changed(
    server: &TestServer,
    change: impl FnOnce(&mut EmbedRequest),
) -> Result<EmbedResponse, Error> {
    let mut request = EmbedRequest {
        model_id: "m".into(),
        inputs: vec!["Hello".into()],
        ..EmbedRequest::default()
    };
    change(&mut request);
    let answer = server.client.inference_service().embed(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_answer(&server.client, status))
}

#[hangar_tests::test]
async fn wrong_fields_are_named() -> Result<()> {
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let no_texts = changed(&server, |request| request.inputs.clear()).await;
    assert_eq!(wrong_fields(no_texts), ["inputs"]);
    let too_many = changed(&server, |request| request.inputs = vec!["x".into(); 1025]).await;
    assert_eq!(wrong_fields(too_many), ["inputs"]);
    let too_long = changed(&server, |request| {
        request.inputs = vec!["x".repeat(1 << 20); 9];
    });
    assert_eq!(wrong_fields(too_long.await), ["inputs"]);
    let empty = changed(&server, |request| {
        request.inputs = vec!["x".into(), String::new(), "y".into(), String::new()];
        request.request_id = "x".repeat(129);
    });
    let fields = ["inputs[1]", "inputs[3]", "request_id"];
    assert_eq!(wrong_fields(empty.await), fields);
    let nothing = changed(&server, |request| {
        request.inputs = vec![String::new(); 1024]
    })
    .await;
    assert_eq!(wrong_fields(nothing).len(), 16);
    for seconds in [-1, 0, 8 * 24 * 3600] {
        let timeout = prost_types::Duration { seconds, nanos: 0 };
        let answer = changed(&server, |request| request.timeout = Some(timeout)).await;
        assert_eq!(wrong_fields(answer), ["timeout"]);
    }
    let nobody = changed(&server, |request| request.model_id.clear()).await;
    assert_eq!(wrong_fields(nobody), ["model_id"]);
    changed(&server, |_| ()).await?;
    let metrics = server.info().await?.metrics.unwrap_or_default();
    assert_eq!((metrics.requests_total, metrics.requests_succeeded), (1, 1));
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_model_and_one_that_is_not_loaded_are_refused_with_their_reasons() -> Result<()>
{
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let ask = |id: &str| -> Embed { server.client.embed(id).input("x") };
    let unknown = ask("nobody").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    server.client.unload("m").send().await?;
    let gone = refusal(
        ask("m").send().await,
        Code::FailedPrecondition,
        ErrorReason::ModelNotLoaded,
    );
    assert_eq!(gone.details().metadata["model_id"], "m");
    Ok(())
}

#[hangar_tests::test]
async fn the_time_for_a_request_is_kept() -> Result<()> {
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let before = server.vector("Hello").await?;
    let metrics = with_time_enough(Duration::from_millis(20), async |limit| {
        let limit = prost_types::Duration::try_from(limit)?;
        let late = changed(&server, |request| {
            request.inputs = many();
            request.timeout = Some(limit);
        });
        let status = match late.await {
            Err(Error::Refused(refusal)) => refusal.code(),
            other => anyhow::bail!("expected an end, got {other:?}"),
        };
        assert_eq!(status, Code::DeadlineExceeded);
        // Else its time was over before it was let in.
        let metrics = server.info().await?.metrics.unwrap_or_default();
        Ok((metrics.requests_failed > 0).then_some(metrics))
    });
    let metrics = metrics.await?;
    assert_eq!(server.vector("Hello").await?, before);
    assert_eq!(
        (metrics.requests_succeeded, metrics.requests_failed),
        (1, 1)
    );
    Ok(())
}
