//! Where lengths and sampling come from when a request does not say: the spec, then the model's
//! generation config, then what is documented.

use anyhow::Result;
use hangar_client::v1::{FinishReason, GenerationDefaults, Sampling};
use hangar_tests::{fixtures::Fixtures, server::TestServer};
use serde_json::{Value, json};

use super::changed;

/// The tiny Llama with these fields in its generation config, and these defaults in its spec.
async fn served(config: Value, defaults: GenerationDefaults) -> Result<TestServer> {
    let fixtures = Fixtures::new()?;
    let path = changed(&fixtures, "generation_config.json", |own| {
        let fields = config.as_object().into_iter().flatten();
        for (name, value) in fields {
            own[name] = value.clone();
        }
    })?;
    TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |spec| {
            spec.generation_defaults = Some(defaults);
        })
        .await
}

/// Tokens of an answer to a prompt of five.
async fn length(server: &TestServer, max_tokens: u32) -> Result<u32> {
    let answer = server.greedy("Hello").max_tokens(max_tokens).text().await?;
    assert_eq!(answer.done.finish_reason(), FinishReason::Length);
    Ok(answer.done.usage.unwrap_or_default().completion_tokens)
}

fn longest(max_tokens: u32) -> GenerationDefaults {
    GenerationDefaults {
        max_tokens,
        ..GenerationDefaults::default()
    }
}

#[hangar_tests::test]
async fn the_length_comes_from_request_spec_model_and_context_in_this_order() -> Result<()> {
    let all = served(json!({"max_new_tokens": 7}), longest(5)).await?;
    assert_eq!((length(&all, 3).await?, length(&all, 0).await?), (3, 5));
    assert_eq!(length(&all, 20).await?, 20);
    let model = served(json!({"max_new_tokens": 7, "max_length": 9}), longest(0)).await?;
    assert_eq!(length(&model, 0).await?, 7);
    let whole = served(json!({"max_length": 25}), longest(0)).await?;
    assert_eq!(length(&whole, 0).await?, 20);
    Ok(())
}

#[hangar_tests::test]
async fn a_default_is_cut_to_what_the_context_leaves() -> Result<()> {
    for (config, defaults) in [
        (json!({}), longest(1_000_000)),
        (json!({"max_new_tokens": 1_000_000}), longest(0)),
        (json!({"max_length": 1_000_000}), longest(0)),
        (json!({"max_length": 2}), longest(0)),
    ] {
        let server = served(config, defaults).await?;
        assert_eq!(length(&server, 0).await?, 251);
    }
    Ok(())
}

#[hangar_tests::test]
async fn sampling_comes_from_request_spec_and_model_in_this_order() -> Result<()> {
    let plain = TestServer::tiny().await?;
    let greedy = plain.greedy("Hello").max_tokens(30).text().await?.text;
    let ask = async |server: &TestServer, sampling: Sampling| {
        let request = server.client.generate("m").prompt("Hello").max_tokens(30);
        let request = request.seed(5).sampling(sampling);
        anyhow::Ok(request.text().await?.text)
    };
    let hot = Sampling {
        temperature: Some(2.0),
        ..Sampling::default()
    };
    let all = Sampling {
        top_k: Some(0),
        top_p: Some(1.0),
        min_p: Some(0.0),
        ..hot
    };
    let free = ask(&plain, all).await?;
    assert_ne!(free, greedy);
    for (name, value) in [
        ("top_k", json!(1)),
        ("top_p", json!(0.0001)),
        ("min_p", json!(1.0)),
    ] {
        let config = json!({"do_sample": true, name: value});
        let server = served(config, GenerationDefaults::default()).await?;
        assert_eq!(ask(&server, hot).await?, greedy, "the model's {name}");
        assert_eq!(ask(&server, all).await?, free, "the request's {name}");
    }
    let spec = GenerationDefaults {
        sampling: Some(all),
        ..GenerationDefaults::default()
    };
    let server = served(json!({"temperature": 0.0}), spec).await?;
    assert_eq!(ask(&server, Sampling::default()).await?, free, "the spec's");
    Ok(())
}
