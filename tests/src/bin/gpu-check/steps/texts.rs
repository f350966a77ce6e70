//! Whether a device says what the processor says.

use anyhow::{Result, ensure};
use hangar_client::v1::{
    DataType, DemoSource, EmbedRequest, ModelSource, ModelSpec, model_source::Source,
};

use crate::{bench::Bench, report::Finding};

/// Tokens to compare: random weights have clear favourites, but small differences add up in the long run.
const TOKENS: u32 = 48;

const PROMPTS: [&str; 4] = ["Hello", "A hangar", "0123456789", "What is it? It is"];

/// How alike vectors have to be.
const LIKENESS: f64 = 0.9999;

/// What the demo model knows.
const QUESTION: &str = "What is Hangar?";

/// A model in F32 with paged attention: the same text, token for token.
pub(super) async fn model(bench: &Bench) -> Result<Finding> {
    let model = &bench.models.exact;
    let dtype = Some(DataType::F32);
    bench
        .load("here", model.on(&bench.plan.device, dtype))
        .await?;
    bench.load("there", model.on("cpu", dtype)).await?;
    for prompt in PROMPTS {
        let here = bench.answer("here", prompt, TOKENS).await?;
        let there = bench.answer("there", prompt, TOKENS).await?;
        ensure!(
            here.text == there.text,
            "{prompt:?} goes on with {:?}, on the CPU with {:?}",
            here.text,
            there.text
        );
        ensure!(here.tokens == TOKENS, "{} tokens came", here.tokens);
    }
    bench.unload("here").await?;
    bench.unload("there").await?;
    let count = PROMPTS.len();
    Ok(Finding(format!(
        "{count} answers of {TOKENS} tokens are the same"
    )))
}

/// The demo model, whose heads paged attention does not take: the same answer.
pub(super) async fn demo(bench: &Bench) -> Result<Finding> {
    let spec = |device: &str| ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Demo(DemoSource {})),
        }),
        device: device.to_owned(),
        dtype: DataType::F32.into(),
        ..ModelSpec::default()
    };
    bench.load("here", spec(&bench.plan.device)).await?;
    bench.load("there", spec("cpu")).await?;
    let ask = async |id: &str| {
        let ask = bench.client.generate(id).message("user", QUESTION);
        anyhow::Ok(ask.temperature(0.0).text().await?.text)
    };
    let (here, there) = (ask("here").await?, ask("there").await?);
    ensure!(here == there, "it says {here:?}, on the CPU {there:?}");
    bench.unload("here").await?;
    bench.unload("there").await?;
    Ok(Finding(format!("“{here}”")))
}

/// An embedding model in F32: nearly the same vectors.
pub(super) async fn embedding(bench: &Bench) -> Result<Finding> {
    let model = &bench.models.embedding;
    let dtype = Some(DataType::F32);
    let device = &bench.plan.device;
    bench.load("here", model.on(device, dtype)).await?;
    bench.load("there", model.on("cpu", dtype)).await?;
    let vectors = async |id: &str| {
        let request = EmbedRequest {
            model_id: id.to_owned(),
            inputs: PROMPTS.map(str::to_owned).into(),
            ..EmbedRequest::default()
        };
        let answer = bench.client.inference_service().embed(request).await?;
        anyhow::Ok(answer.into_inner().embeddings)
    };
    let (here, there) = (vectors("here").await?, vectors("there").await?);
    ensure!(here.len() == PROMPTS.len() && there.len() == here.len());
    let likeness = here
        .iter()
        .zip(&there)
        .map(|(here, there)| cosine(&here.values, &there.values))
        .fold(1.0, f64::min);
    ensure!(likeness >= LIKENESS, "the vectors' cosine is {likeness:.6}");
    bench.unload("here").await?;
    bench.unload("there").await?;
    let (count, size) = (here.len(), here[0].values.len());
    Ok(Finding(format!(
        "{count} vectors of {size} numbers, cosine at least {likeness:.6}"
    )))
}

fn cosine(one: &[f32], two: &[f32]) -> f64 {
    let dot = |one: &[f32], two: &[f32]| -> f64 {
        let products = one.iter().zip(two);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(one, two) / (dot(one, one) * dot(two, two)).sqrt().max(1e-12)
}
