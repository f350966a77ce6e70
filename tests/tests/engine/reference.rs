//! What tiny models of every text architecture answer, against what transformers says: the same tokens, the same
//! log probabilities, the same ends, below, at and above every window; or the documented refusal.

mod gguf_cuts;
mod gguf_models;
mod page;
mod text_halves;
mod token_files;

use anyhow::{Context, Result};
use hangar_client::{
    Client, Error,
    v1::{
        DataType, FinishReason, GenerateRequest, LoraAdapter, ModelSpec, Sampling,
        generate_response::Event,
    },
};
use hangar_tests::{
    fixtures::{Fixtures, Reference, ReferenceAnswer},
    server::{TestServer, spec},
};

/// Models that are refused, and what the refusal names.
const REFUSED: &[(&str, &str)] = &[
    ("llama-yarn", "rope_parameters.rope_type"),
    ("llama-attention-bias", "attention_bias"),
    ("llama-mlp-bias", "mlp_bias"),
    ("mistral-yarn", "rope_parameters.rope_type"),
    ("qwen2-yarn", "rope_parameters.rope_type"),
    ("qwen3-bias", "attention_bias"),
    ("qwen3-yarn", "rope_parameters.rope_type"),
    ("starcoder2-untied", "tie_word_embeddings"),
    ("granite-moe", "num_local_experts"),
    ("gemma-own-head", "lm_head.weight"),
    ("granite-steps", "time_step_limit"),
    ("llama-two-directions", "is_causal"),
    ("gemma3-images-renamed", "vision_tower.embeddings"),
    ("qwen3-images-yarn", "rope_parameters.rope_type"),
    ("qwen3-images-bias", "attention_bias"),
    ("gpt-oss", "GptOssForCausalLM"),
    ("phi", "PhiForCausalLM"),
    ("phi-qk-norm", "PhiForCausalLM"),
    ("phimoe", "PhimoeForCausalLM"),
    ("qwen3-moe", "Qwen3MoeForCausalLM"),
    ("qwen3-moe-plain", "Qwen3MoeForCausalLM"),
    ("qwen3-moe-sparse", "Qwen3MoeForCausalLM"),
    ("qwen3-next", "Qwen3NextForCausalLM"),
    ("glm4-moe", "Glm4MoeForCausalLM"),
    ("glm4-moe-qk-norm", "Glm4MoeForCausalLM"),
    ("glm4-moe-lite", "Glm4MoeLiteForCausalLM"),
    ("deepseek2", "DeepseekV2ForCausalLM"),
    ("deepseek2-no-q-rank", "DeepseekV2ForCausalLM"),
    ("deepseek3", "DeepseekV3ForCausalLM"),
    ("deepseek3-yarn", "DeepseekV3ForCausalLM"),
];

/// Models whose context ends with their window, and its width: longer sequences are refused.
const SHORT: &[(&str, usize)] = &[
    ("gemma2", 16),
    ("qwen2-window", 16),
    ("qwen2-window-upper", 16),
    ("smollm3-window", 16),
];

/// What an answer is.
struct ModelAnswer {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    finish: FinishReason,
}

/// By how much a log probability may differ from the reference's.
const EXACT: f32 = 1e-3;

/// The same, of a model that is computed in F16.
const HALF: f32 = 0.03;

#[hangar_tests::test]
async fn every_architecture_answers_as_the_reference_or_is_refused_by_name() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = TestServer::real().fixtures(&fixtures).start().await?;
    let client = hangar.connect().await?;
    let mut wrong = Vec::new();
    for model in Reference::all()? {
        let spec = exact_spec(&fixtures, &model)?;
        if is_served(&client, &model.name, spec, REFUSED, &mut wrong).await {
            wrong.extend(differences(&client, &model.name, &model.answers, EXACT).await);
            client.unload(&model.name).send().await?;
        }
    }
    assert_none(&wrong);
    Ok(())
}

#[hangar_tests::test]
async fn models_in_half_precision_answer_as_the_reference() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = TestServer::real().fixtures(&fixtures).start().await?;
    let client = hangar.connect().await?;
    let mut wrong = Vec::new();
    for model in Reference::all()?.into_iter().filter(Reference::is_half) {
        let spec = ModelSpec {
            dtype: DataType::Unspecified.into(),
            ..exact_spec(&fixtures, &model)?
        };
        client.load(&model.name).spec(spec).wait().await?;
        let metadata = client.info().model(&model.name).send().await?;
        let metadata = metadata
            .models
            .into_iter()
            .next()
            .and_then(|it| it.metadata);
        assert_eq!(metadata.context("metadata")?.dtype(), DataType::F16);
        wrong.extend(differences(&client, &model.name, &model.answers, HALF).await);
        client.unload(&model.name).send().await?;
    }
    assert_none(&wrong);
    Ok(())
}

/// A model and its adapter, computed as exactly as the reference computes it.
fn exact_spec(fixtures: &Fixtures, model: &Reference) -> Result<ModelSpec> {
    let mut spec = spec(&fixtures.reference(model)?);
    spec.set_dtype(DataType::F32);
    if let Some(path) = fixtures.reference_adapter(model)? {
        spec.adapters.push(LoraAdapter {
            name: "adapter".into(),
            path: path.to_string_lossy().into_owned(),
            demo: None,
        });
    }
    Ok(spec)
}

/// Loads a model that is not among the refused ones, and says that it did; of the others the refusal has to name what
/// stands beside them. What is otherwise is `wrong`.
async fn is_served(
    client: &Client,
    model: &str,
    spec: ModelSpec,
    refused: &[(&str, &str)],
    wrong: &mut Vec<String>,
) -> bool {
    let load = client.load(model).spec(spec).wait().await;
    let refused = refused.iter().find(|(name, _)| *name == model);
    match (load, refused) {
        (Ok(_), None) => return true,
        (Err(Error::Refused(refusal)), Some((_, word))) if refusal.message().contains(word) => {}
        (Ok(_), Some(_)) => wrong.push(format!("{model} is served")),
        (Err(error), _) => wrong.push(format!("{model}: {error}")),
    }
    false
}

/// What a loaded model answers otherwise than the reference.
async fn differences(
    client: &Client,
    model: &str,
    answers: &[ReferenceAnswer],
    tolerance: f32,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for answer in answers {
        let answer = &within_context(model, answer);
        if let Err(error) = compare(client, model, answer, tolerance).await {
            let length = answer.prompt.len();
            wrong.push(format!("{model} at {length}: {error:#}"));
        }
    }
    wrong
}

fn assert_none(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What of an answer is in the context of a model that ends with its window.
fn within_context(model: &str, answer: &ReferenceAnswer) -> ReferenceAnswer {
    let mut answer = answer.clone();
    let Some((_, context)) = SHORT.iter().find(|(name, _)| *name == model) else {
        return answer;
    };
    let left = context.saturating_sub(answer.prompt.len());
    if answer.tokens.len() > left {
        answer.tokens.truncate(left);
        answer.finish = "length".into();
    }
    answer
}

async fn compare(
    client: &Client,
    model: &str,
    answer: &ReferenceAnswer,
    tolerance: f32,
) -> Result<()> {
    let short = SHORT.iter().find(|(name, _)| *name == model);
    if short.is_some_and(|(_, context)| answer.prompt.len() >= *context) {
        let reported = ask(client, model, &answer.prompt, 1).await;
        let error = reported
            .err()
            .context("a longer prompt is taken")?
            .to_string();
        anyhow::ensure!(error.contains("context of"), "{error}");
        return Ok(());
    }
    if answer.tokens.is_empty() && answer.finish != "stop" {
        return Ok(());
    }
    let stops = answer.finish == "stop";
    let most = answer.tokens.len() + usize::from(stops);
    let reported = ask(client, model, &answer.prompt, u32::try_from(most)?).await?;
    anyhow::ensure!(
        reported.tokens == answer.tokens,
        "{:?} in place of {:?}",
        reported.tokens,
        answer.tokens
    );
    anyhow::ensure!(
        (reported.finish == FinishReason::Stop) == stops,
        "it ends by {:?}",
        reported.finish
    );
    for (one, other) in reported.logprobs.iter().zip(&answer.logprobs) {
        anyhow::ensure!(
            (one - other).abs() < tolerance,
            "{:?} in place of {:?}",
            reported.logprobs,
            answer.logprobs
        );
    }
    Ok(())
}

async fn ask(client: &Client, model: &str, prompt: &str, max_tokens: u32) -> Result<ModelAnswer> {
    let request = GenerateRequest {
        model_id: model.into(),
        prompt: prompt.into(),
        max_tokens,
        logprobs: true,
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        ..GenerateRequest::default()
    };
    let mut stream = client.inference_service().generate(request).await?;
    let stream = stream.get_mut();
    let (mut tokens, mut logprobs, mut finish) = (Vec::new(), Vec::new(), None);
    while let Some(response) = stream.message().await? {
        match response.event.context("an event")? {
            Event::Chunk(chunk) => {
                tokens.extend(chunk.token_ids);
                logprobs.extend(chunk.logprobs.iter().map(|reported| reported.logprob));
            }
            Event::Done(done) => finish = Some(done.finish_reason()),
        }
    }
    Ok(ModelAnswer {
        tokens,
        logprobs,
        finish: finish.context("an end")?,
    })
}
