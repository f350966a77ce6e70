//! Functions that a model may call: in its chat template, in its answers, and in what it is given of results.

use anyhow::{Context, Result};
use hangar_client::{
    Completion, Generate,
    v1::{ErrorReason, FinishReason, GenerateDone, Tool, ToolCall},
};
use hangar_tests::{
    refusals::{refusal, wrong_fields},
    server::{TestServer, binary},
};
use prost_types::{Struct, Value};
use serde_json::json;
use tokio::process::Command;
use tonic::Code;

/// Writes functions, calls and results as Qwen's templates do.
const TAGGED: &str = "{% if tools %}Call them in <tool_call></tool_call>: {{ tools | tojson }}\n{% endif %}\
    {% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls %}<tool_call>\
    {{ c.function.name }}({{ c.function.arguments.city }})</tool_call>{% endfor %}\
    {% if m.tool_call_id %} [{{ m.name }} {{ m.tool_call_id }}]{% endif %}{{ '\n' }}{% endfor %}assistant:";

/// Writes them as Mistral's and Llama's do.
const LISTED: &str = "{{ tools | tojson }}[TOOL_CALLS] {{ messages[0].content }}";
const BARE: &str = "{{ tools | tojson }}Respond in the format {\"name\": function name, \"parameters\": \
    dictionary of argument name and its value}. {{ messages[0].content }}";

/// A call as the tags have it.
const CALL: &str =
    "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}</tool_call>";

async fn served(template: &str) -> Result<TestServer> {
    TestServer::long(|spec| spec.chat_template = template.into()).await
}

fn text(text: &str) -> Value {
    text.to_owned().into()
}

/// `{"type": "object", "properties": {NAME: {"enum": VALUES}}, "required": [NAME], …}`.
fn schema(name: &str, values: &[&str]) -> Struct {
    let object = |fields: Vec<(&str, Value)>| Struct {
        fields: fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    };
    let value = |fields: Struct| Value::from(fields.fields);
    let list = |values: &[&str]| Value::from(values.iter().map(|it| text(it)).collect::<Vec<_>>());
    object(vec![
        ("type", text("object")),
        (
            "properties",
            value(object(vec![(
                name,
                value(object(vec![("enum", list(values))])),
            )])),
        ),
        ("required", list(&[name])),
        ("additionalProperties", false.into()),
    ])
}

fn weather() -> Tool {
    Tool {
        name: "weather".into(),
        description: "Tells the weather.".into(),
        parameters: Some(schema("city", &["Ulm", "Bonn"])),
        ..Tool::default()
    }
}

fn time() -> Tool {
    Tool {
        name: "time".into(),
        description: "Tells the time.".into(),
        parameters: Some(schema("zone", &["UTC"])),
        ..Tool::default()
    }
}

/// A question with both functions.
fn ask(server: &TestServer) -> Generate {
    let ask = server.client.generate("m").message("user", "Rain?");
    ask.tool(weather())
        .tool(time())
        .temperature(0.0)
        .max_tokens(200)
}

fn reason(done: &GenerateDone) -> FinishReason {
    done.finish_reason()
}

/// The one call of an answer that is nothing else: its name and arguments.
fn call(answer: &Completion) -> Result<(&str, serde_json::Value)> {
    assert_eq!(reason(&answer.done), FinishReason::ToolCalls, "{answer:?}");
    assert_eq!(answer.text, "");
    let [
        ToolCall {
            id,
            name,
            arguments,
        },
    ] = &answer.done.tool_calls[..]
    else {
        anyhow::bail!("not one call: {answer:?}");
    };
    assert_eq!(id.len(), 9);
    Ok((name, serde_json::from_str(arguments)?))
}

#[hangar_tests::test]
async fn a_call_that_is_required_is_made_in_each_notation() -> Result<()> {
    for template in [TAGGED, LISTED, BARE] {
        let server = served(template).await?;
        for seed in 0..4 {
            let asked = ask(&server)
                .tool_choice("required")
                .temperature(1.0)
                .seed(seed);
            let answer = asked.text().await?;
            let (name, arguments) = call(&answer)?;
            let city = |city: &str| json!({ "city": city });
            match name {
                "weather" => assert!([city("Ulm"), city("Bonn")].contains(&arguments)),
                "time" => assert_eq!(arguments, json!({"zone": "UTC"})),
                other => anyhow::bail!("{other} was not offered"),
            }
        }
        let answer = ask(&server).tool_choice("time").text().await?;
        assert_eq!(call(&answer)?, ("time", json!({"zone": "UTC"})));
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_call_that_is_cut_off_is_text() -> Result<()> {
    let server = served(TAGGED).await?;
    let whole = ask(&server).tool_choice("time").text().await?;
    let tokens = whole.done.usage.context("usage")?.completion_tokens;
    let cut = ask(&server).tool_choice("time").max_tokens(tokens - 3);
    let cut = cut.text().await?;
    assert_eq!(reason(&cut.done), FinishReason::Length);
    assert!(
        cut.text.contains("\"time\"") && cut.done.tool_calls.is_empty(),
        "{cut:?}"
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_call_of_the_models_own_is_found_behind_its_text() -> Result<()> {
    let server = served(TAGGED).await?;
    // A model of random weights calls nothing by itself: a constraint has it say what another would.
    let says = |words: &str| ask(&server).lark(format!("start: {}", json!(words))).text();
    let answer = says(&format!("Let me see. {CALL}")).await?;
    assert_eq!(answer.text, "Let me see. ");
    assert_eq!(reason(&answer.done), FinishReason::ToolCalls);
    let called = &answer.done.tool_calls[0];
    assert_eq!(
        (called.name.as_str(), called.arguments.as_str()),
        ("weather", "{\"city\":\"Ulm\"}")
    );
    let answer = says(&format!("{CALL}\n{}", CALL.replace("Ulm", "Bonn"))).await?;
    assert_eq!(answer.done.tool_calls.len(), 2, "{answer:?}");
    assert_ne!(answer.done.tool_calls[0].id, answer.done.tool_calls[1].id);
    for words in [
        "It is dry.",
        "It is <tool_calm>",
        "<tool_call>soon</tool_call>",
        &CALL.replace("weather", "other"),
    ] {
        let answer = says(words).await?;
        assert_eq!(
            (answer.text.as_str(), reason(&answer.done)),
            (words, FinishReason::Stop)
        );
        assert!(answer.done.tool_calls.is_empty());
    }
    Ok(())
}

#[hangar_tests::test]
async fn functions_calls_and_results_are_in_the_prompt() -> Result<()> {
    let server = served(TAGGED).await?;
    let call = ToolCall {
        id: "call1".into(),
        name: "weather".into(),
        arguments: "{\"city\": \"Ulm\"}".into(),
    };
    let question = || {
        let ask = server.client.generate("m").message("user", "Rain?");
        let ask = ask.tool_calls([call.clone()]).tool_result("call1", "dry");
        let ask = ask.with(|request| request.messages[2].name = "weather".into());
        ask.temperature(0.0).max_tokens(20)
    };
    let history = "user: Rain?\nassistant: <tool_call>weather(Ulm)</tool_call>\ntool: dry [weather call1]\nassistant:";
    let same = server.greedy(history).max_tokens(20).text().await?;
    let answer = question().text().await?;
    assert_eq!(
        (answer.text, answer.done.usage),
        (same.text, same.done.usage)
    );
    // A choice of none is as if there were no functions.
    let none = question().tool(time()).tool_choice("none").text().await?;
    assert_eq!(none.done.usage, same.done.usage);
    let offered = question().tool(time()).text().await?;
    let tokens = |done: &GenerateDone| done.usage.map_or(0, |usage| usage.prompt_tokens);
    let written = "Call them in <tool_call></tool_call>: ".len() + "Tells the time.".len();
    assert!(tokens(&offered.done) as usize > tokens(&none.done) as usize + written);
    Ok(())
}

#[hangar_tests::test]
async fn a_template_without_functions_is_refused() -> Result<()> {
    let unsupported = (Code::FailedPrecondition, ErrorReason::UnsupportedByModel);
    let server = TestServer::tiny().await?;
    let refused = refusal(ask(&server).text().await, unsupported.0, unsupported.1);
    assert!(refused.message().contains("no place"), "{refused}");
    let server = self::served("{{ tools | tojson }}{{ messages[0].content }}").await?;
    let refused = refusal(ask(&server).text().await, unsupported.0, unsupported.1);
    assert!(refused.message().contains("writes calls"), "{refused}");
    // Where none may be called, it makes no difference.
    ask(&server)
        .tool_choice("none")
        .max_tokens(2)
        .text()
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn wrong_functions_are_named_by_their_place() -> Result<()> {
    let server = served(TAGGED).await?;
    let plain = || server.client.generate("m").message("user", "Rain?");
    let fields = wrong_fields(plain().tool(Tool::default()).text().await);
    assert_eq!(fields, ["tools[0].name"]);
    let fields = wrong_fields(ask(&server).tool_choice("other").text().await);
    assert_eq!(fields, ["tool_choice"]);
    let both = ask(&server).tool_choice("required").regex("x");
    assert_eq!(wrong_fields(both.text().await), ["tool_choice"]);
    let raw = server.client.generate("m").prompt("x").tool(time());
    assert_eq!(wrong_fields(raw.text().await), ["tools"]);
    let result = plain().with(|request| request.messages[0].tool_call_id = "1".into());
    assert_eq!(
        wrong_fields(result.text().await),
        ["messages[0].tool_call_id"]
    );
    // No grammar can be made of it; found by the worker.
    let impossible = Tool {
        parameters: Some(schema("zone", &[])),
        ..time()
    };
    let impossible = plain().tool(impossible).tool_choice("required");
    assert_eq!(wrong_fields(impossible.text().await), ["tools"]);
    ask(&server).max_tokens(2).text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn the_command_line_offers_functions_and_shows_calls() -> Result<()> {
    let server = served(TAGGED).await?;
    let list = json!([{"type": "function", "function": {"name": "time", "parameters": {
        "$defs": {"zone": {"const": "UTC"}}, "type": "object",
        "properties": {"zone": {"$ref": "#/$defs/zone"}}, "required": ["zone"],
        "additionalProperties": false,
    }}}]);
    let run = async |tools: &str| {
        let mut command = Command::new(binary("hangarctl")?);
        let url = server.url();
        command.args(["--server", &url, "generate", "m", "What time is it?"]);
        let choice = ["--tools", tools, "--tool-choice", "required"];
        anyhow::Ok(command.args(choice).output().await?)
    };
    let output = run(&list.to_string()).await?;
    let shown = String::from_utf8(output.stdout)?;
    assert_eq!(shown, "time {\"zone\":\"UTC\"}\n");
    let output = run("{}").await?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains("--tools takes a JSON list"));
    Ok(())
}
