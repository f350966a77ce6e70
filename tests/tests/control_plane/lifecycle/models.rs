//! Models of every kind that is served, with real engines: they load, answer and unload.

use anyhow::Result;
use hangar_tests::{
    fixtures::{Fixtures, Quantization},
    server::{TestServer, spec},
};

use super::greedy;

#[hangar_tests::test]
async fn every_sound_model_answers_in_ascii_as_its_prompt_wants() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
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
    server.terminate().await?;
    Ok(())
}
