//! What conversations are put into: the model's template or the spec's, and its variables.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    fixtures::Fixtures,
    refusals::{refusal, wrong_fields},
    server::{TestServer, spec},
};
use tonic::Code;

/// A template that knows whether to think, as Qwen3's does.
const THINKING: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    assistant:{% if enable_thinking is defined and enable_thinking is false %}<think></think>\
    {% endif %}{{ style | default('') }}";

async fn thinking() -> Result<TestServer> {
    TestServer::tiny_with(|spec| spec.chat_template = THINKING.into()).await
}

#[hangar_tests::test]
async fn the_specs_template_takes_the_place_of_the_models() -> Result<()> {
    let server = thinking().await?;
    let chat = server.client.generate("m").message("user", "Hi");
    let chat = chat.temperature(0.0).max_tokens(20).text().await?;
    let same = server.greedy("user: Hi\nassistant:").max_tokens(20);
    let same = same.text().await?;
    assert_eq!((chat.text, chat.done.usage), (same.text, same.done.usage));
    Ok(())
}

#[hangar_tests::test]
async fn thinking_is_switched_where_the_template_knows_it() -> Result<()> {
    let server = thinking().await?;
    let ask = || {
        let chat = server.client.generate("m").message("user", "Hi");
        chat.temperature(0.0).max_tokens(20)
    };
    let with = ask()
        .template_option("enable_thinking", true)
        .text()
        .await?;
    assert_eq!(with.text, ask().text().await?.text);
    let without = ask().template_option("enable_thinking", false);
    let without = without.template_option("style", " briefly").text().await?;
    let prompt = "user: Hi\nassistant:<think></think> briefly";
    let same = server.greedy(prompt).max_tokens(20).text().await?;
    assert_eq!(
        (without.text, without.done.usage),
        (same.text, same.done.usage)
    );
    let unused = ask().template_option("unheard_of", 3.5).text().await?;
    assert_eq!(unused.text, with.text);
    Ok(())
}

#[hangar_tests::test]
async fn options_are_for_messages_and_have_limits() -> Result<()> {
    const FIELD: &str = "chat_template_options";
    let server = thinking().await?;
    let raw = server.greedy("Hi").template_option("enable_thinking", true);
    assert_eq!(wrong_fields(raw.text().await), [FIELD]);
    let ask = |name: &str, value: prost_types::Value| {
        let chat = server.client.generate("m").message("user", "Hi");
        chat.max_tokens(1).template_option(name, value).text()
    };
    let nested =
        |depth| (0..depth).fold(1.0.into(), |inner, _| prost_types::Value::from(vec![inner]));
    ask("deep", nested(15)).await?;
    for value in [
        nested(16),
        nested(30),
        f64::NAN.into(),
        "x".repeat(65_536).into(),
    ] {
        assert_eq!(wrong_fields(ask("value", value).await), [FIELD]);
    }
    let own = ask("messages", true.into()).await;
    assert_eq!(wrong_fields(own), [format!("{FIELD}.messages")]);
    Ok(())
}

#[hangar_tests::test]
async fn a_broken_template_in_the_spec_makes_the_model_unusable() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    for broken in [
        "{% for m in %}",
        "{{ raise_exception('never') }}",
        "{{ a.b.c }}",
    ] {
        let mut spec = spec(&fixtures.llama()?);
        spec.chat_template = broken.into();
        let load = client.load("m").spec(spec).force_reload().wait().await;
        let refusal = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        assert!(refusal.message().contains("chat_template"), "{refusal}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_specs_tokenizer_takes_the_place_of_the_models() -> Result<()> {
    let plain = TestServer::tiny().await?;
    let answer = plain.greedy("Hello").max_tokens(20).text().await?.text;
    let fixtures = Fixtures::new()?;
    let own = fixtures.llama()?.join("tokenizer.json");
    let moved = fixtures.directory("tokenizers")?.join("bytes.json");
    std::fs::rename(own, &moved)?;
    let path = fixtures.root().join("llama");
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |spec| {
            spec.tokenizer = moved.to_string_lossy().into_owned();
        })
        .await?;
    assert_eq!(
        server.greedy("Hello").max_tokens(20).text().await?.text,
        answer
    );
    let info = server.info().await?;
    let state = info.status.context("a status")?.state();
    assert_eq!(state, ModelState::Ready);
    Ok(())
}

#[hangar_tests::test]
async fn a_tokenizer_lies_below_a_root_and_is_one() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let model = fixtures.llama()?;
    let outside = fixtures.outside().join("tokenizer.json");
    std::fs::copy(model.join("tokenizer.json"), &outside)?;
    let link = fixtures.root().join("link.json");
    std::os::unix::fs::symlink(&outside, &link)?;
    let broken = fixtures.root().join("broken.json");
    std::fs::write(&broken, "{}")?;
    let missing = fixtures.root().join("missing.json");
    let (denied, unusable) = (
        (Code::PermissionDenied, ErrorReason::SourceNotAllowed),
        (Code::FailedPrecondition, ErrorReason::ModelUnusable),
    );
    for (path, (code, reason)) in [
        (outside, denied),
        (link, denied),
        (broken, unusable),
        (missing, unusable),
        (model.clone(), unusable),
    ] {
        let mut spec = spec(&model);
        spec.tokenizer = path.to_string_lossy().into_owned();
        let load = client.load("m").spec(spec).force_reload().wait().await;
        refusal(load, code, reason);
    }
    let mut spec = spec(&model);
    spec.tokenizer = "relative.json".into();
    let load = client.load("m").spec(spec).wait().await;
    assert_eq!(wrong_fields(load), ["spec.tokenizer"]);
    Ok(())
}
