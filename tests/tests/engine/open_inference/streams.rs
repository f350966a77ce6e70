//! ModelStreamInfer: many requests, and many responses to each.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hangar_client::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    infer_parameter::ParameterChoice,
};
use hangar_tests::{background::Background, server::DEADLINE};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{
    InferenceServer, asked, code_and_reason, flag, known_answers, number_of, outputs, parameter,
    raw, text_of, with,
};

const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

/// A call with its requests.
pub(crate) struct InferStream {
    pub(crate) requests: mpsc::Sender<ModelInferRequest>,
    pub(crate) responses: Streaming<ModelStreamInferResponse>,
}

impl InferStream {
    pub(crate) async fn begin(server: &InferenceServer) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(100);
        let mut stub = server.stub();
        let call = stub.model_stream_infer(ReceiverStream::new(receiver));
        Ok(Self {
            requests,
            responses: call.await?.into_inner(),
        })
    }

    pub(crate) async fn next(&mut self) -> Result<ModelStreamInferResponse> {
        let next = timeout(DEADLINE, self.responses.message()).await??;
        next.context("the call ended")
    }

    /// All responses to a request, when no other runs.
    pub(crate) async fn ask(
        &mut self,
        request: ModelInferRequest,
    ) -> Result<Vec<ModelStreamInferResponse>> {
        self.requests.send(request).await?;
        let mut responses = Vec::new();
        loop {
            let response = self.next().await?;
            let last = is_final(&response);
            responses.push(response);
            if last {
                return Ok(responses);
            }
        }
    }

    /// Ends the requests; nothing more comes.
    async fn end(mut self) -> Result<()> {
        drop(self.requests);
        let end = timeout(DEADLINE, self.responses.message()).await??;
        anyhow::ensure!(end.is_none(), "something came after the end: {end:?}");
        Ok(())
    }
}

fn of(response: &ModelStreamInferResponse) -> &ModelInferResponse {
    assert_eq!(response.error_message, "");
    let Some(response) = response.infer_response.as_ref() else {
        panic!("no response: {response:?}")
    };
    response
}

fn response_parameter(response: &ModelStreamInferResponse, name: &str) -> Option<ParameterChoice> {
    let response = response.infer_response.as_ref()?;
    let InferParameter { parameter_choice } = response.parameters.get(name)?.clone();
    parameter_choice
}

fn is_final(response: &ModelStreamInferResponse) -> bool {
    response_parameter(response, "triton_final_response") == Some(ParameterChoice::BoolParam(true))
}

fn streaming(server: &InferenceServer, prompt: &str, max_tokens: u32) -> ModelInferRequest {
    let mut request = server.greedy(prompt, max_tokens);
    request.inputs[2] = flag("stream", true);
    request
}

/// Makes sure that the responses join to `answer`, and that only the last one says why it ended and how long the
/// prompt was: so many tokens.
fn assert_joined(
    responses: &[ModelStreamInferResponse],
    answer: &str,
    prompt_tokens: usize,
) -> Result<()> {
    let (last, pieces) = responses.split_last().context("responses")?;
    assert!(pieces.len() > 3, "{pieces:?}");
    let texts = responses.iter();
    let text: String = texts
        .filter_map(|response| text_of(of(response), "text_output"))
        .collect();
    assert_eq!(text, answer);
    for piece in pieces {
        assert_eq!(text_of(of(piece), "finish_reason").as_deref(), Some("None"));
        assert_eq!(number_of(of(piece), "num_input_tokens"), None);
    }
    assert_eq!(text_of(of(last), "finish_reason").as_deref(), Some("stop"));
    let input = number_of(of(last), "num_input_tokens").context("a number")?;
    assert_eq!(input as usize, prompt_tokens);
    Ok(())
}

#[hangar_tests::test]
async fn pieces_join_to_the_trained_answers_of_the_demo_model() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&server).await?;
    for known_answer in known_answers()?.iter().take(4) {
        let prompt = asked(&known_answer.prompt);
        let flags = [
            flag("return_finish_reason", true),
            flag("return_num_input_tokens", true),
            flag("return_num_output_tokens", true),
        ];
        let request = with(streaming(&server, &prompt, 128), flags);
        let tokens = server.client.tokenize("demo", &*prompt).send().await?;
        let own = server.client.generate("demo").prompt(&*prompt);
        let own = own.temperature(0.0).max_tokens(128).text().await?;
        for request in [request.clone(), raw(request)] {
            let responses = call.ask(request).await?;
            assert_joined(&responses, &known_answer.answer, tokens.len())?;
            let reported = responses.iter();
            let reported: u32 = reported
                .filter_map(|r| number_of(of(r), "num_output_tokens"))
                .sum();
            let usage = own.done.usage.unwrap_or_default();
            assert_eq!(reported, usage.completion_tokens);
        }
    }
    call.end().await
}

#[hangar_tests::test]
async fn an_empty_final_response_comes_where_it_is_asked_for() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&server).await?;
    let mut request = streaming(&server, &asked("Hello"), 3);
    request.id = "with an end".into();
    let wanted = parameter(ParameterChoice::BoolParam(true));
    request.parameters.insert(EMPTY_FINAL.into(), wanted);
    let responses = call.ask(request.clone()).await?;
    let (last, rest) = responses.split_last().context("responses")?;
    assert!(of(last).outputs.is_empty() && of(last).id == "with an end");
    assert!(rest.iter().all(|response| !of(response).outputs.is_empty()));
    let unwanted = parameter(ParameterChoice::BoolParam(false));
    request.parameters.insert(EMPTY_FINAL.into(), unwanted);
    let responses = call.ask(request).await?;
    assert!(
        responses
            .iter()
            .all(|response| !of(response).outputs.is_empty())
    );
    call.end().await
}

#[hangar_tests::test]
async fn without_stream_there_is_one_response() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&server).await?;
    let known_answers = &known_answers()?[0];
    let request = server.greedy(&asked(&known_answers.prompt), 128);
    let responses = call.ask(request).await?;
    assert_eq!(responses.len(), 1);
    let text = text_of(of(&responses[0]), "text_output");
    assert_eq!(text.as_deref(), Some(known_answers.answer.as_str()));
    call.end().await
}

#[hangar_tests::test]
async fn requests_run_concurrently_and_responses_carry_their_ids() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&server).await?;
    let mut expected = BTreeMap::new();
    for (n, known_answers) in known_answers()?.into_iter().take(10).enumerate() {
        let request = ModelInferRequest {
            id: n.to_string(),
            ..streaming(&server, &asked(&known_answers.prompt), 128)
        };
        call.requests.send(request).await?;
        expected.insert(n.to_string(), known_answers.answer);
    }
    let (mut texts, mut ended) = (BTreeMap::<_, String>::new(), 0);
    while ended < expected.len() {
        let response = call.next().await?;
        let piece = text_of(of(&response), "text_output").context("a text")?;
        texts
            .entry(of(&response).id.clone())
            .or_default()
            .push_str(&piece);
        ended += usize::from(is_final(&response));
    }
    assert_eq!(texts, expected);
    call.end().await
}

#[hangar_tests::test]
async fn more_requests_than_run_side_by_side_are_all_answered() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&server).await?;
    let expected = server.expected(&asked("Hello"), 2).await?;
    let requests = call.requests.clone();
    let request = server.greedy(&asked("Hello"), 2);
    let sent = Background::start(async move {
        for n in 0..150 {
            let id = n.to_string();
            let request = ModelInferRequest {
                id,
                ..request.clone()
            };
            requests.send(request).await?;
        }
        anyhow::Ok(())
    });
    let mut ids = Vec::new();
    for _ in 0..150 {
        let response = call.next().await?;
        let text = text_of(of(&response), "text_output");
        assert_eq!(text.as_deref(), Some(expected.as_str()));
        ids.push(of(&response).id.parse::<u32>()?);
    }
    sent.end().await??;
    ids.sort_unstable();
    assert_eq!(ids, (0..150).collect::<Vec<_>>());
    call.end().await
}

/// A response says that a request failed, and why.
fn assert_failed(
    response: &ModelStreamInferResponse,
    id: &str,
    code: &str,
    reason: &str,
    word: &str,
) {
    assert!(response.error_message.contains(word), "{response:?}");
    let text = |text: &str| Some(ParameterChoice::StringParam(text.into()));
    assert_eq!(response_parameter(response, "error_code"), text(code));
    assert_eq!(response_parameter(response, "error_reason"), text(reason));
    let Some(response) = response.infer_response.as_ref() else {
        panic!("no response: {response:?}")
    };
    assert_eq!((response.id.as_str(), response.outputs.len()), (id, 0));
}

#[hangar_tests::test]
async fn a_request_that_fails_says_so_and_the_call_goes_on() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&server).await?;
    let good = streaming(&server, &asked("Hello"), 3);
    let mut wrong = good.clone();
    wrong.inputs[0].shape = vec![2];
    let unknown = ModelInferRequest {
        model_name: "nope".into(),
        ..good.clone()
    };
    let version = ModelInferRequest {
        model_version: "7".into(),
        ..good.clone()
    };
    let echo = with(good.clone(), [flag("exclude_input_in_output", false)]);
    let long = streaming(&server, &"word ".repeat(2000), 1);
    for (n, (request, code, reason, word)) in [
        (
            wrong,
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
            "inputs[0].shape",
        ),
        (unknown, "NOT_FOUND", "MODEL_NOT_FOUND", "nope"),
        (version, "NOT_FOUND", "MODEL_NOT_FOUND", "version 1"),
        (echo, "INVALID_ARGUMENT", "INVALID_FIELD", "exclude_input"),
        (long, "INVALID_ARGUMENT", "CONTEXT_EXCEEDED", "context"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("failing {n}");
        let request = ModelInferRequest {
            id: id.clone(),
            ..request
        };
        let responses = call.ask(request).await?;
        assert_eq!(responses.len(), 1);
        assert_failed(&responses[0], &id, code, reason, word);
        let after = call.ask(good.clone()).await?;
        assert!(after.len() > 1 && outputs(of(&after[0])).contains_key("text_output"));
    }
    call.end().await
}

#[hangar_tests::test]
async fn a_model_that_is_unloaded_fails_its_requests_only() -> Result<()> {
    let server = InferenceServer::long(|_| ()).await?;
    let mut call = InferStream::begin(&server).await?;
    call.requests
        .send(streaming(&server, "Hello", 16_000))
        .await?;
    assert!(!is_final(&call.next().await?));
    server.client.unload("m").force().send().await?;
    let last = loop {
        let response = call.next().await?;
        if is_final(&response) {
            break response;
        }
    };
    let unloaded = Some(ParameterChoice::StringParam("MODEL_UNLOADED".into()));
    assert_eq!(response_parameter(&last, "error_reason"), unloaded);
    let refused = call.ask(streaming(&server, "Hello", 1)).await?;
    let reason = Some(ParameterChoice::StringParam("MODEL_NOT_LOADED".into()));
    assert_eq!(response_parameter(&refused[0], "error_reason"), reason);
    call.end().await
}

#[hangar_tests::test]
async fn an_idle_call_ends_when_the_server_shuts_down() -> Result<()> {
    let served = InferenceServer::demo().await?;
    let mut call = InferStream::begin(&served).await?;
    call.ask(streaming(&served, &asked("Hello"), 2)).await?;
    let ending = Background::start(served.server.terminate());
    let end = timeout(DEADLINE, call.responses.message()).await?;
    let status = end.err().context("the call ended well")?;
    assert_eq!(
        code_and_reason(&status),
        (Code::Unavailable, "SHUTTING_DOWN".into())
    );
    assert!(ending.end().await??.success());
    Ok(())
}
