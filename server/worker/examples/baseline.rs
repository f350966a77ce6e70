//! mistral.rs by itself, in one process, as a program of its users would have it: what `cargo token-bench`
//! and `gpu-check` compare Hangar with.
//!
//! Arguments: a model's directory, a data type ("f32", "f16" or "bf16") and a device ("cpu", "cuda" or
//! "cuda:1"). It prints `{"ready":SECONDS}` once the model is loaded, then answers each line of its standard
//! input with one of its own: `{"prompt":"Hello","max_tokens":8}` with the answer and its times,
//! `{"copy":BYTES}` with the seconds that a copy of so many bytes to the device took. It ends with its input.

use std::{
    io::{BufRead, Write},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use mistralrs::{
    Model, ModelDType, PagedAttentionMetaBuilder, Response, TextModelBuilder, TokenSource,
    core::{
        DeviceMapSetting, MemoryGpuConfig, NormalRequest, Request, RequestMessage, SamplingParams,
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Tokens of its KV cache on a GPU.
const CACHE: usize = 4096;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum BaselineRequest {
    Copy { copy: usize },
    Answer { prompt: String, max_tokens: usize },
}

/// What it took.
#[derive(Debug, Default, Serialize)]
struct Measured {
    text: String,
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
        Some("bf16") => ModelDType::BF16,
        other => bail!("no data type: {other:?}"),
    };
    let device = match arguments.next().as_deref() {
        Some("cpu") => Device::Cpu,
        Some("cuda") => Device::new_cuda(0)?,
        Some(other) if let Some(ordinal) = other.strip_prefix("cuda:") => {
            Device::new_cuda(ordinal.parse()?)?
        }
        other => bail!("no device: {other:?}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let began = Instant::now();
    let model = runtime.block_on(load(Path::new(&path), dtype, &device))?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{{\"ready\":{}}}", began.elapsed().as_secs_f64())?;
    for (id, line) in std::io::stdin().lock().lines().enumerate() {
        let measured = match serde_json::from_str(&line?)? {
            BaselineRequest::Copy { copy: bytes } => copy(bytes, &device)?,
            BaselineRequest::Answer { prompt, max_tokens } => {
                runtime.block_on(answer(&model, prompt, max_tokens, id))?
            }
        };
        writeln!(output, "{}", serde_json::to_string(&measured)?)?;
    }
    Ok(())
}

async fn load(path: &Path, dtype: ModelDType, device: &Device) -> Result<Model> {
    let builder = TextModelBuilder::new(path.display())
        .with_dtype(dtype)
        .with_device(device.clone())
        // As in Hangar: all on this device.
        .with_device_mapping(DeviceMapSetting::dummy())
        // As in Hangar too: with it, a prompt that begins as an earlier one does is not computed whole.
        .with_prefix_cache_n(None)
        .with_token_source(TokenSource::None);
    let builder = if device.is_cpu() {
        builder
    } else {
        let paged = PagedAttentionMetaBuilder::default()
            .with_gpu_memory(MemoryGpuConfig::ContextSize(CACHE))
            .build()?;
        builder.with_paged_attn(paged)
    };
    builder.build().await
}

/// Copies from ordinary memory, as loading weights does.
fn copy(bytes: usize, device: &Device) -> Result<Measured> {
    let source = Tensor::ones(bytes, candle_core::DType::U8, &Device::Cpu)?;
    // What is made at the first copy does not count.
    source.narrow(0, 0, bytes.min(1 << 20))?.to_device(device)?;
    device.synchronize()?;
    let began = Instant::now();
    let copied = source.to_device(device)?;
    device.synchronize()?;
    let whole = began.elapsed().as_secs_f64();
    drop(copied);
    Ok(Measured {
        whole,
        ..Measured::default()
    })
}

/// Streams an answer, greedily. The channel has room for all of it, so that the engine waits for nobody.
async fn answer(model: &Model, text: String, max_tokens: usize, id: usize) -> Result<Measured> {
    let began = Instant::now();
    let (sender, mut pieces) = mpsc::channel(max_tokens + 16);
    let message = RequestMessage::Completion {
        text,
        echo_prompt: false,
        best_of: None,
    };
    let sampling = SamplingParams {
        temperature: Some(0.0),
        max_len: Some(max_tokens),
        ..SamplingParams::neutral()
    };
    let mut request = NormalRequest::new_simple(message, sampling, sender, id, None, None);
    request.is_streaming = true;
    let engine = model.inner().get_sender(None)?;
    engine.send(Request::Normal(Box::new(request))).await?;
    let mut measured = Measured::default();
    while let Some(piece) = pieces.recv().await {
        let Response::CompletionChunk(piece) = piece else {
            bail!("the engine answered with something that is no piece");
        };
        for choice in piece.choices {
            if measured.tokens == 0 {
                measured.first = began.elapsed().as_secs_f64();
            }
            measured.tokens += 1;
            measured.text.push_str(&choice.text);
            if choice.finish_reason.is_some() {
                measured.whole = began.elapsed().as_secs_f64();
                return Ok(measured);
            }
        }
    }
    bail!("the engine ended the answer without an end")
}
