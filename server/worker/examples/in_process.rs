//! mistral.rs by itself, in one process, as a program of its users would have it: what Hangar's own token
//! path is measured against (`cargo token-bench`).
//!
//! Arguments: a model's directory and a data type ("f32" or "f16"). It prints `{"ready":true}` once the model
//! is loaded, then answers each line of its standard input, such as `{"prompt":"Hello","max_tokens":8}`, with
//! a line of timings. It ends with its input.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mistralrs::core::{NormalRequest, Request, RequestMessage, SamplingParams};
use mistralrs::{Model, ModelDType, Response, TextModelBuilder, TokenSource};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// What is to be measured.
#[derive(Debug, Deserialize)]
struct Ask {
    prompt: String,
    max_tokens: usize,
}

/// What it took.
#[derive(Debug, Default, Serialize)]
struct Told {
    text: String,
    /// Tokens; each came in a piece of its own.
    tokens: usize,
    /// Seconds until the first token.
    first: f64,
    /// Seconds until the end.
    whole: f64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("a model's directory")?;
    let dtype = match arguments.next().as_deref() {
        Some("f32") => ModelDType::F32,
        Some("f16") => ModelDType::F16,
        other => bail!("no data type: {other:?}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let builder = TextModelBuilder::new(path)
        .with_force_cpu()
        .with_dtype(dtype)
        .with_token_source(TokenSource::None);
    let model = runtime.block_on(builder.build())?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{{\"ready\":true}}")?;
    for (id, line) in std::io::stdin().lock().lines().enumerate() {
        let ask = serde_json::from_str(&line?)?;
        let told = runtime.block_on(answer(&model, ask, id))?;
        writeln!(output, "{}", serde_json::to_string(&told)?)?;
    }
    Ok(())
}

/// Streams an answer, greedily. The channel has room for all of it, so that the engine waits for nobody.
async fn answer(model: &Model, ask: Ask, id: usize) -> Result<Told> {
    let began = Instant::now();
    let (sender, mut pieces) = mpsc::channel(ask.max_tokens + 16);
    let message = RequestMessage::Completion {
        text: ask.prompt,
        echo_prompt: false,
        best_of: None,
    };
    let sampling = SamplingParams {
        temperature: Some(0.0),
        max_len: Some(ask.max_tokens),
        ..SamplingParams::neutral()
    };
    let mut request = NormalRequest::new_simple(message, sampling, sender, id, None, None);
    request.is_streaming = true;
    let engine = model.inner().get_sender(None)?;
    engine.send(Request::Normal(Box::new(request))).await?;
    let mut told = Told::default();
    while let Some(piece) = pieces.recv().await {
        let Response::CompletionChunk(piece) = piece else {
            bail!("the engine answered with something that is no piece");
        };
        for choice in piece.choices {
            if told.tokens == 0 {
                told.first = seconds(began.elapsed());
            }
            told.tokens += 1;
            told.text.push_str(&choice.text);
            if choice.finish_reason.is_some() {
                told.whole = seconds(began.elapsed());
                return Ok(told);
            }
        }
    }
    bail!("the engine ended the answer without an end")
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
