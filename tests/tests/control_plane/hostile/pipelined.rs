//! Many requests of one call at once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hangar_client::inference::{
    InferTensorContents, ModelInferRequest, ModelStreamInferResponse,
    infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
};
use hangar_tests::{
    raw::{RawCall, RawClient, frame},
    scripted::{Gate, GenerateScript, Script},
    server::{TestServer, TestServerBuilder},
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{STREAM_INFER, with_little_memory};

const REQUESTS: usize = 10_000;

/// Requests that are sent at once: some four thousand small frames that nobody has read yet end a connection.
const LOT: usize = 2_000;

/// Requests of a call that wait, and those beside them that run side by side.
const WAITING: usize = 1024;
const TAKEN: usize = 64 + WAITING;

fn request(n: usize, text: &str) -> ModelInferRequest {
    let text = InferTensorContents {
        bytes_contents: vec![text.to_owned().into()],
        ..InferTensorContents::default()
    };
    ModelInferRequest {
        model_name: "m".into(),
        id: n.to_string(),
        inputs: vec![InferInputTensor {
            name: "text_input".into(),
            datatype: "BYTES".into(),
            shape: vec![1],
            contents: Some(text),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

/// The id of a response, and why its request failed, if it did.
fn id_and_reason(message: &[u8]) -> Result<(usize, Option<String>)> {
    let response = ModelStreamInferResponse::decode(message)?;
    let response = response.infer_response.context("no response")?;
    let reason = response.parameters.get("error_reason");
    let reason = reason.and_then(|reason| reason.parameter_choice.clone());
    let reason = reason.and_then(|reason| match reason {
        ParameterChoice::StringParam(reason) => Some(reason),
        _ => None,
    });
    Ok((response.id.parse()?, reason))
}

/// A server whose answers wait for the gate.
async fn gated(options: TestServerBuilder) -> Result<(TestServer, Gate)> {
    let script = Script::generating(GenerateScript {
        tokens: Some(1),
        gate: Some("token".into()),
        ..GenerateScript::default()
    });
    let server = options.script(&script).start().await?;
    let gate = server.gate("token")?;
    server.ready().await?;
    Ok((server, gate))
}

#[hangar_tests::test]
async fn many_small_requests_at_once_are_all_answered() -> Result<()> {
    let (server, gate) = gated(TestServer::scripted()).await?;
    let caller = RawClient::connect(&server.url()).await?;
    let first = RawCall::of(STREAM_INFER, &request(0, "x").encode_to_vec());
    let (more, frames) = mpsc::channel(LOT);
    let mut call = caller.begin(first, ReceiverStream::new(frames)).await?;
    let mut ends = BTreeMap::new();
    let mut sent = 1;
    let mut more = Some(more);
    loop {
        // The next lot goes when all of the last that may not wait are refused.
        if ends.len() + TAKEN >= sent
            && let Some(sender) = &more
        {
            for n in sent..REQUESTS.min(sent + LOT) {
                sender.send(frame(&request(n, "x").encode_to_vec())).await?;
            }
            sent = REQUESTS.min(sent + LOT);
            if sent == REQUESTS {
                more = None;
            }
        }
        let Some(message) = call.next().await? else {
            break;
        };
        let (id, reason) = id_and_reason(&message)?;
        ends.insert(id, reason);
        if ends.len() == REQUESTS - TAKEN {
            gate.open()?;
        }
    }
    assert_eq!(ends.len(), REQUESTS);
    let (refused, taken): (Vec<_>, Vec<_>) = ends.values().partition(|reason| reason.is_some());
    let reason = |reason: &&Option<String>| reason.as_deref() == Some("QUEUE_FULL");
    assert!(refused.iter().all(reason), "{refused:?}");
    // As many as may wait were there before the first began.
    assert!((WAITING..=TAKEN).contains(&taken.len()), "{}", taken.len());
    Ok(())
}

#[hangar_tests::test]
async fn the_one_for_which_there_is_no_memory_is_refused_alone() -> Result<()> {
    let (server, gate) = gated(TestServer::scripted().with(with_little_memory)).await?;
    let caller = RawClient::connect(&server.url()).await?;
    // Two that run, and what the third needs while it comes.
    let large = "x".repeat(7 << 20);
    let ask = |n: usize| request(n, &large).encode_to_vec();
    let first = RawCall::of(STREAM_INFER, &ask(0));
    let (more, frames) = mpsc::channel(3);
    let mut call = caller.begin(first, ReceiverStream::new(frames)).await?;
    for n in 1..3 {
        more.send(frame(&ask(n))).await?;
    }
    let refused = call.next().await?.context("no response")?;
    let limit = Some("LIMIT_REACHED".to_owned());
    assert_eq!(id_and_reason(&refused)?, (2, limit));
    gate.open()?;
    let mut ends = BTreeMap::new();
    for _ in 0..2 {
        let message = call.next().await?.context("no response")?;
        ends.extend([id_and_reason(&message)?]);
    }
    assert_eq!(ends, BTreeMap::from([(0, None), (1, None)]));
    // Their memory is there again.
    more.send(frame(&ask(3))).await?;
    let last = call.next().await?.context("no response")?;
    assert_eq!(id_and_reason(&last)?, (3, None));
    drop(more);
    assert!(call.next().await?.is_none());
    Ok(())
}
