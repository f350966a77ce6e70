//! Models of every format that is loaded, and several at once.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use hangar_client::{
    Client,
    v1::{DataType, ModelFormat},
};
use hangar_tests::{
    fixtures::{Fixtures, Quantization},
    info, processes,
    server::{TestServer, spec},
};

async fn greedy(client: &Client, model: &str, tokens: u32) -> Result<String> {
    let request = client.generate(model).prompt("Hello").temperature(0.0);
    Ok(request.max_tokens(tokens).text().await?.text)
}

#[hangar_tests::test]
async fn every_format_answers_and_reports_what_it_is() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let models = [
        (
            fixtures.llama()?,
            "LlamaForCausalLM",
            ModelFormat::Safetensors,
        ),
        (
            fixtures.qwen3()?,
            "Qwen3ForCausalLM",
            ModelFormat::Safetensors,
        ),
        (
            fixtures.llama_gguf(Quantization::F32)?,
            "llama",
            ModelFormat::Gguf,
        ),
        (
            fixtures.llama_gguf(Quantization::Q8_0)?,
            "llama",
            ModelFormat::Gguf,
        ),
        (fixtures.qwen3_gguf()?, "qwen3", ModelFormat::Gguf),
    ];
    for (number, (path, architecture, format)) in (0..).zip(models) {
        let id = format!("models/{number}");
        client.load(&id).spec(spec(&path)).wait().await?;
        assert_eq!(greedy(&client, &id, 20).await?.len(), 20, "{id}");
        let info = client.info().model(&id).send().await?.models;
        let metadata = info[0].metadata.clone().context("metadata")?;
        assert_eq!(
            (metadata.architecture.as_str(), metadata.format()),
            (architecture, format)
        );
        assert_eq!(metadata.context_length, 256);
        let tokens = client.tokenize(&id, "Hello").send().await?;
        assert!(tokens.iter().all(|token| *token < metadata.vocabulary_size));
        assert!(metadata.parameter_count > 100_000 && metadata.size_bytes > 100_000);
    }
    Ok(())
}

#[hangar_tests::test]
async fn two_models_answer_at_once_each_from_its_own_process() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let models = [
        ("qwen", fixtures.qwen3()?),
        ("llama", fixtures.llama_gguf(Quantization::F32)?),
    ];
    let mut alone = Vec::new();
    let mut workers = Vec::new();
    for (id, path) in &models {
        let load = client.load(*id).spec(spec(path)).wait().await?;
        workers.push(load.status.context("a status")?.worker_pid);
        alone.push(greedy(&client, id, 200).await?);
    }
    assert_ne!(workers[0], workers[1]);
    assert!(workers.iter().all(|worker| processes::is_running(*worker)));
    let both = models.iter().map(|(id, _)| greedy(&client, id, 200));
    assert_eq!(try_join_all(both).await?, alone);
    client.unload("qwen").send().await?;
    assert!(!processes::exists(workers[0]) && processes::is_running(workers[1]));
    assert_eq!(greedy(&client, "llama", 200).await?, alone[1]);
    Ok(())
}

#[hangar_tests::test]
async fn a_data_type_is_taken_as_it_is_asked_for() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    for dtype in [DataType::F32, DataType::F16] {
        let mut spec = spec(&fixtures.llama()?);
        spec.set_dtype(dtype);
        client.load("m").spec(spec).force_reload().wait().await?;
        let info = client.info().model("m").send().await?.models;
        let metadata = info[0].metadata.clone().context("metadata")?;
        assert_eq!(metadata.dtype(), dtype);
        assert_eq!(greedy(&client, "m", 20).await?.len(), 20);
    }
    Ok(())
}

#[hangar_tests::test]
async fn attention_over_a_gguf_file_is_computed_in_f32_unless_asked_otherwise() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    for (asked, chosen) in [
        (DataType::Unspecified, DataType::F32),
        (DataType::F16, DataType::F16),
    ] {
        let mut spec = spec(&fixtures.qwen3_gguf()?);
        spec.set_dtype(asked);
        client.load("m").spec(spec).force_reload().wait().await?;
        let metadata = info::model(&client, "m").await?.metadata;
        assert_eq!(metadata.context("metadata")?.dtype(), chosen);
        assert_eq!(greedy(&client, "m", 20).await?.len(), 20);
    }
    Ok(())
}
