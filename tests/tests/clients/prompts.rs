//! Prompts of real chat templates, against what transformers makes of the same conversations: the same text and the same
//! tokens, or a refusal by name.
//!
//! The templates and tokenizers are fetched; `tests/reference/prompts.py` has computed what is expected.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use hangar_client::{
    Client, Error,
    v1::{
        ChatMessage, ContentPart, ErrorReason, TokenizeRequest, TokenizeResponse, Tool, ToolCall,
        content_part::Part,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    server::{TestServer, spec},
    tools,
    workspace::tests_package,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

/// Templates without a place for functions: transformers drops them without a word, Hangar refuses them.
const NO_TOOLS: [&str; 3] = ["deepseek_v3", "gemma3", "llama3_1"];

/// Templates that take texts only: transformers fails or prints a list of parts, Hangar puts the parts together.
const TEXTS_ONLY: [&str; 7] = [
    "command_r_plus",
    "deepseek_v3",
    "llama3_1",
    "llama3_2",
    "mistral_nemo",
    "qwen2_5",
    "qwen3",
];

/// What transformers makes of the conversations.
#[derive(Deserialize)]
struct Expectations {
    /// Options of all conversations.
    options: Map<String, Value>,
    /// Functions by the name under which conversations have them.
    tools: BTreeMap<String, Vec<Value>>,
    /// Prompts by model and conversation.
    models: BTreeMap<String, BTreeMap<String, Expected>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Expected {
    Prompt {
        characters: usize,
        prompt: String,
        tokens: usize,
        ids: String,
    },
    /// "refused".
    Refused(String),
}

#[derive(Deserialize)]
struct Conversation {
    name: String,
    messages: Vec<Value>,
    tools: Option<String>,
    #[serde(default)]
    options: Map<String, Value>,
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> Result<T> {
    let path = tests_package().join("reference").join(name);
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

#[hangar_tests::test]
async fn prompts_are_those_of_the_reference_or_refused_by_name() -> Result<()> {
    let files = spawn_blocking(tools::tokenizers).await??;
    let expectations: Expectations = read("prompts.json")?;
    let conversations: Vec<Conversation> = read("conversations.json")?;
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut wrong = Vec::new();
    for (model, expected) in &expectations.models {
        load(&client, &fixtures, model, &files.join(model)).await?;
        for conversation in &conversations {
            let name = &conversation.name;
            let expected = expected.get(name).context("not computed")?;
            let request = request(model, conversation, &expectations)?;
            if let Err(error) = compare(&client, request, expected).await {
                wrong.push(format!("{model}, {name}: {error:#}"));
            }
        }
        client.unload(model).send().await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn load(client: &Client, fixtures: &Fixtures, model: &str, files: &Path) -> Result<()> {
    let path = fixtures.with_tokenizer(model, files)?;
    client.load(model).spec(spec(&path)).wait().await?;
    let info = client.info().model(model).send().await?;
    let metadata = info
        .models
        .into_iter()
        .next()
        .and_then(|model| model.metadata);
    let known = metadata.and_then(|metadata| metadata.conversation);
    let known = known.context("nothing is said of conversations")?;
    let messages = known.messages.context("nothing is said of messages")?;
    ensure!(
        messages.supported == (model != "gptoss"),
        "{model}: {messages:?}"
    );
    ensure!(
        messages.supported == messages.why_not.is_empty(),
        "{model}: {messages:?}"
    );
    Ok(())
}

/// Compares what Hangar makes of a conversation.
async fn compare(client: &Client, request: TokenizeRequest, expected: &Expected) -> Result<()> {
    let (model, asks_for_tools) = (request.model_id.clone(), !request.tools.is_empty());
    let has_parts = request
        .messages
        .iter()
        .any(|message| !message.parts.is_empty());
    let answer = tokenize(client, request.clone()).await;
    if has_parts && TEXTS_ONLY.contains(&model.as_str()) {
        let whole = tokenize(client, put_together(request)).await?;
        ensure!(answer? == whole, "parts are not what they are together");
        return Ok(());
    }
    match (answer, expected) {
        (Ok(answer), expected) => {
            let given = observed(&answer);
            ensure!(
                given == *expected,
                "{expected:?}, but {given:?}: {:?}",
                answer.prompt
            );
        }
        (Err(Error::Refused(refusal)), Expected::Refused(_)) => {
            let reason = refusal.details().reason();
            let known = [ErrorReason::InvalidField, ErrorReason::UnsupportedByModel];
            ensure!(
                reason.is_some_and(|reason| known.contains(&reason)),
                "{refusal:?}"
            );
        }
        (Err(Error::Refused(refusal)), _) => {
            let no_tools = asks_for_tools && NO_TOOLS.contains(&model.as_str());
            let by_name = refusal.details().reason() == Some(ErrorReason::UnsupportedByModel);
            ensure!(no_tools && by_name, "refused: {refusal:?}");
        }
        (Err(error), _) => return Err(error.into()),
    }
    Ok(())
}

async fn tokenize(client: &Client, request: TokenizeRequest) -> Result<TokenizeResponse, Error> {
    let call = client.tokenize(request.model_id.clone(), "");
    call.with(|given| *given = request).send_for_prompt().await
}

fn observed(answer: &TokenizeResponse) -> Expected {
    let ids: Vec<String> = answer.token_ids.iter().map(u32::to_string).collect();
    Expected::Prompt {
        characters: answer.prompt.chars().count(),
        prompt: digest(&answer.prompt),
        tokens: answer.token_ids.len(),
        ids: digest(&ids.join(" ")),
    }
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same conversation with the parts of each message as one text.
fn put_together(mut request: TokenizeRequest) -> TokenizeRequest {
    for message in &mut request.messages {
        for part in std::mem::take(&mut message.parts) {
            if let Some(Part::Text(text)) = part.part {
                message.content.push_str(&text);
            }
        }
    }
    request
}

fn request(
    model: &str,
    conversation: &Conversation,
    expectations: &Expectations,
) -> Result<TokenizeRequest> {
    let tools = match &conversation.tools {
        None => &[][..],
        Some(name) => expectations.tools.get(name).context("no such tools")?,
    };
    let mut options = expectations.options.clone();
    options.extend(conversation.options.clone());
    Ok(TokenizeRequest {
        model_id: model.to_owned(),
        messages: conversation.messages.iter().map(message).collect(),
        tools: tools.iter().map(tool).collect(),
        chat_template_options_json: Value::Object(options).to_string(),
        ..TokenizeRequest::default()
    })
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn message(given: &Value) -> ChatMessage {
    let parts = given["content"].as_array().into_iter().flatten();
    let parts = parts.map(|part| ContentPart {
        part: Some(Part::Text(text(part, "text"))),
    });
    let calls = given["tool_calls"].as_array().into_iter().flatten();
    let calls = calls.map(|call| ToolCall {
        id: text(call, "id"),
        name: text(&call["function"], "name"),
        arguments: call["function"]["arguments"].to_string(),
    });
    ChatMessage {
        role: text(given, "role"),
        content: text(given, "content"),
        parts: parts.collect(),
        tool_calls: calls.collect(),
        tool_call_id: text(given, "tool_call_id"),
        reasoning: text(given, "reasoning_content"),
        name: text(given, "name"),
        fields: None,
    }
}

fn tool(given: &Value) -> Tool {
    let function = &given["function"];
    if function.is_null() {
        return Tool {
            name: text(given, "name"),
            definition_json: given.to_string(),
            ..Tool::default()
        };
    }
    let parameters = &function["parameters"];
    Tool {
        name: text(function, "name"),
        description: text(function, "description"),
        parameters_json: match parameters.is_null() {
            true => String::new(),
            false => parameters.to_string(),
        },
        ..Tool::default()
    }
}
