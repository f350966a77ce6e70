//! The models that the tests make do what the other suites take for granted.

use anyhow::Result;
use hangar_client::{
    Client, Error,
    v1::{
        ErrorReason::{ModelUnusable, SourceNotAllowed, UnsupportedByModel},
        FinishReason,
    },
};
use hangar_tests::{
    fixtures::{Broken, Effect, Fixtures, Quantization},
    hangar::{Hangar, Options, spec},
};

async fn greedy(client: &Client, model: &str, prompt: &str) -> Result<String> {
    let answer = client
        .generate(model)
        .prompt(prompt)
        .temperature(0.0)
        .max_tokens(40);
    let answer = answer.text().await?;
    assert_eq!(answer.done.finish_reason(), FinishReason::Length);
    Ok(answer.text)
}

#[tokio::test]
async fn every_sound_model_answers_in_ascii_as_its_prompt_wants() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let client = hangar.client().await?;
    let models = [
        fixtures.llama()?,
        fixtures.long_llama()?,
        fixtures.qwen3()?,
        fixtures.llama_gguf(Quantization::F32)?,
        fixtures.llama_gguf(Quantization::Q8_0)?,
        fixtures.qwen3_gguf()?,
    ];
    for path in models {
        client
            .load("m")
            .spec(spec(&path))
            .force_reload()
            .wait()
            .await?;
        let one = greedy(&client, "m", "Hello").await?;
        let other = greedy(&client, "m", "What is this?").await?;
        assert_ne!(one, other, "{}", path.display());
        assert!(
            one.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{one:?}"
        );
        assert_eq!(greedy(&client, "m", "Hello").await?, one);
        let sampled = client
            .generate("m")
            .prompt("Hello")
            .temperature(1.0)
            .max_tokens(100);
        let sampled = sampled.text().await?.text;
        assert!(
            sampled.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{sampled:?}"
        );
        let unload = client.unload("m").send().await?;
        assert!(unload.was_loaded && !unload.killed);
    }
    hangar.terminate().await?;
    Ok(())
}

#[tokio::test]
async fn every_broken_model_has_its_effect() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let client = hangar.client().await?;
    for broken in Broken::ALL {
        let id = format!("{broken:?}");
        let load = client
            .load(&id)
            .spec(spec(&fixtures.broken(broken)?))
            .wait()
            .await;
        let reason = load.as_ref().err().and_then(Error::reason);
        match broken.effect() {
            Effect::NotAllowed => {
                assert_eq!(reason, Some(SourceNotAllowed), "{broken:?}: {load:?}")
            }
            Effect::Unusable => assert_eq!(reason, Some(ModelUnusable), "{broken:?}: {load:?}"),
            Effect::Harmless | Effect::NoChat => {
                load?;
                client
                    .generate(&id)
                    .prompt("x")
                    .max_tokens(3)
                    .text()
                    .await?;
                let chat = client
                    .generate(&id)
                    .message("user", "x")
                    .max_tokens(3)
                    .text()
                    .await;
                let reason = chat.err().and_then(|error| error.reason());
                let no_chat = broken.effect() == Effect::NoChat;
                assert_eq!(reason, no_chat.then_some(UnsupportedByModel), "{broken:?}");
                client.unload(&id).send().await?;
            }
        }
    }
    Ok(())
}
