//! What a model thinks, told apart from what it says.

use anyhow::{Context, Result};
use hangar_client::{
    Generate,
    v1::{ChatMessage, FinishReason},
};
use hangar_tests::{
    fixtures::{Fixtures, SuccessorModel},
    server::TestServer,
};
use serde_json::json;

/// What the model says: each character is followed by the next, whatever came before.
const SAID: [&str; 13] = [
    "a",
    "b",
    "<",
    "/",
    "t",
    "h",
    "i",
    "n",
    "k",
    ">",
    "O",
    "K",
    "<|im_end|>",
];

/// Begins the thinking in the prompt, unless it is not wanted.
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}({{ m.thinking }}){% endif %}\
    {{ m.content }}{% endfor %}[assistant]<think>\n{% if enable_thinking is false %}</think>\n{% endif %}{{ '' }}";

async fn served(template: &str) -> Result<TestServer> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.root().join("clock");
    SuccessorModel::new(&SAID)?.write(&path)?;
    let server = TestServer::real().fixtures(&fixtures);
    server
        .serving(&path, |spec| spec.chat_template = template.into())
        .await
}

fn ask(server: &TestServer) -> Generate {
    server
        .client
        .generate("m")
        .message("user", "Hi")
        .temperature(0.0)
}

#[hangar_tests::test]
async fn what_a_model_thinks_is_beside_what_it_says() -> Result<()> {
    let server = served(TEMPLATE).await?;
    let answer = ask(&server).text().await?;
    assert_eq!(
        (answer.reasoning.as_str(), answer.text.as_str()),
        ("ab", "OK")
    );
    assert_eq!(answer.done.finish_reason(), FinishReason::Stop);
    let usage = answer.done.usage.context("usage")?;
    assert_eq!((usage.reasoning_tokens, usage.completion_tokens), (10, 12));
    let cut = ask(&server).max_tokens(5).text().await?;
    assert_eq!((cut.reasoning.as_str(), cut.text.as_str()), ("ab</t", ""));
    Ok(())
}

#[hangar_tests::test]
async fn thinking_is_left_in_the_text_where_that_is_asked_for() -> Result<()> {
    let server = served(TEMPLATE).await?;
    let whole = "ab</think>OK";
    let kept = ask(&server).with(|request| request.keep_reasoning_in_text = true);
    let not_begun = ask(&server).template_option("enable_thinking", false);
    let raw = server.greedy("[user]Hi[assistant]<think>\n");
    for request in [kept, not_begun, raw] {
        let answer = request.text().await?;
        assert_eq!(
            (answer.reasoning.as_str(), answer.text.as_str()),
            ("", whole)
        );
        assert_eq!(answer.done.usage.context("usage")?.reasoning_tokens, 0);
    }
    Ok(())
}

#[hangar_tests::test]
async fn what_was_thought_goes_back_to_the_template() -> Result<()> {
    let server = served(TEMPLATE).await?;
    let message = |role: &str, content: &str, reasoning: &str| ChatMessage {
        role: role.into(),
        content: content.into(),
        reasoning: reasoning.into(),
        ..ChatMessage::default()
    };
    let messages = vec![
        message("user", "Hi", ""),
        message("assistant", "OK", "ab"),
        message("user", "So?", ""),
    ];
    let call = server.client.tokenize("m", "");
    let answer = call
        .with(|request| request.messages = messages)
        .send_for_prompt()
        .await?;
    assert_eq!(
        answer.prompt,
        "[user]Hi[assistant](ab)OK[user]So?[assistant]<think>\n"
    );
    Ok(())
}

#[hangar_tests::test]
async fn info_says_what_conversations_may_have_and_why_not() -> Result<()> {
    for (template, thinks, tools) in [
        (TEMPLATE, true, false),
        (
            "{{ tools }}<tool_call>{{ messages[0].content }}",
            false,
            true,
        ),
    ] {
        let server = served(template).await?;
        let metadata = server.info().await?.metadata.context("metadata")?;
        let known = metadata.conversation.context("conversation")?;
        for (support, supported) in [
            (known.messages, true),
            (known.tools, tools),
            (known.images, false),
            (known.thinking, thinks),
        ] {
            let support = support.context("support")?;
            assert_eq!(support.supported, supported, "{support:?}");
            assert_eq!(support.why_not.is_empty(), supported, "{support:?}");
        }
    }
    Ok(())
}

/// A successor model with other texts for some of its tokens: the second ones, of which the third says whether they are special.
fn relabelled(successor: &mut SuccessorModel, texts: &[(&str, &str, bool)]) -> Result<()> {
    let vocabulary = successor.tokenizer["model"]["vocab"].as_object_mut();
    let vocabulary = vocabulary.context("a vocabulary")?;
    let mut added = Vec::new();
    for (old, new, special) in texts {
        let id = vocabulary.remove(*old).context("a token")?;
        if *special {
            added.push(json!({
                "id": id, "content": new, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
        vocabulary.insert((*new).to_owned(), id);
    }
    let all = successor.tokenizer["added_tokens"].as_array_mut();
    all.context("added tokens")?.extend(added);
    Ok(())
}

#[hangar_tests::test]
async fn what_is_in_the_channel_of_analysis_is_thought() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.root().join("channels");
    let mut successor =
        SuccessorModel::new(&["A", "B", "C", "a", "D", "E", "F", "b", "<|im_end|>"])?;
    relabelled(
        &mut successor,
        &[
            ("A", "<|channel|>", true),
            ("B", "analysis", false),
            ("C", "<|message|>", true),
            ("D", "<|end|>", true),
            ("E", "<|start|>", true),
            // A token is followed by one token only, so that the second header is another.
            ("F", "assistant<|channel|>final<|message|>", false),
            ("G", "<|constrain|>", true),
        ],
    )?;
    successor.write(&path)?;
    let server = TestServer::real().fixtures(&fixtures);
    let server = server.serving(&path, |_| ()).await?;
    let answer = ask(&server).text().await?;
    assert_eq!(
        (answer.reasoning.as_str(), answer.text.as_str()),
        ("a", "b")
    );
    let usage = answer.done.usage.context("usage")?;
    assert_eq!((usage.completion_tokens, usage.reasoning_tokens), (8, 4));
    let kept = ask(&server)
        .with(|request| request.keep_reasoning_in_text = true)
        .text()
        .await?;
    let text = "analysisaassistant<|channel|>final<|message|>b";
    assert_eq!((kept.reasoning.as_str(), kept.text.as_str()), ("", text));
    Ok(())
}
