use super::*;

fn chat(source: &str) -> Result<Chat, String> {
    let template = json!({"chat_template": source, "bos_token": "<s>"});
    let template = serde_json::from_value(template).expect("a template");
    Chat::of(Some(&template), "")
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage {
        role: role.into(),
        content: content.into(),
        ..ChatMessage::default()
    }
}

#[test]
fn a_conversation_is_rendered() {
    let chat = chat(
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}\
         {% if add_generation_prompt %}[assistant]{% endif %}",
    )
    .expect("a template");
    let prompt = chat.render(&[message("user", "a <b>")], &[], &Map::new());
    assert_eq!(prompt, Ok("<s>[user]a <b>\n[assistant]".into()));
}

#[test]
fn options_take_precedence() {
    let chat = chat("{{ enable_thinking }}").expect("a template");
    assert_eq!(chat.render(&[], &[], &Map::new()), Ok("True".into()));
    let options = Map::from_iter([("enable_thinking".to_owned(), false.into())]);
    assert_eq!(chat.render(&[], &[], &options), Ok("False".into()));
}

#[test]
fn a_broken_template_is_an_error_with_its_cause() {
    let error = chat("{% for x in %}").expect_err("broken");
    assert!(error.contains("broken"), "{error}");
    let template = serde_json::from_value(json!({})).expect("a template");
    assert!(Chat::of(Some(&template), "").is_err());
    assert!(Chat::of(None, "").is_err());
}

#[test]
fn what_a_template_raises_is_the_message_of_the_error() {
    let chat = chat("{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}")
        .expect("a template");
    let error = chat.render(&[message("system", "x")], &[], &Map::new());
    assert!(error.is_err_and(|e| e.starts_with("no")));
}

#[test]
fn marks_of_generation_cut_white_space_and_nothing_else() {
    let chat = chat("a {%- generation -%} {{ messages[0].content }} {%- endgeneration -%} b")
        .expect("a template");
    let prompt = chat.render(&[message("user", "x")], &[], &Map::new());
    assert_eq!(prompt, Ok("axb".into()));
}

#[test]
fn a_template_that_wants_a_system_message_takes_conversations_with_one() {
    let source = "{% if messages[0].role != 'system' %}{{ raise_exception('a system message is needed') }}\
                  {% endif %}{{ messages[1].content }}";
    let chat = chat(source).expect("a template");
    let messages = [message("system", "x"), message("user", "y")];
    assert_eq!(chat.render(&messages, &[], &Map::new()), Ok("y".into()));
    assert!(chat.render(&messages[1..], &[], &Map::new()).is_err());
    assert!(Chat::of(None, source).is_ok());
    assert!(Chat::of(None, "{{ raise_exception('never') }}").is_err());
}

#[test]
fn what_a_template_says_is_not_too_long() {
    let chat = chat("{{ raise_exception('bad: ' ~ messages[0].content) }}").expect("a template");
    let error = chat.render(&[message("user", &"x".repeat(100_000))], &[], &Map::new());
    assert!(error.is_err_and(|why| why.len() < 1000));
}

#[test]
fn idioms_of_python_are_rewritten() {
    assert_eq!(
        rewritten("{% for i in range(n - 1, -1, -1) %}{{ x[::-1] }}"),
        "{% for i in range(n - 1)|reverse %}{{ x|reverse }}"
    );
    assert_eq!(rewritten("range(a, b) range("), "range(a, b) range(");
}

#[test]
fn tools_calls_and_results_are_rendered() {
    let chat = chat(
        "{% if tools %}{{ tools[0].function.name }}|{% endif %}{% for m in messages %}{{ m.role }}:\
         {% for c in m.tool_calls %}{{ c.function.arguments.city }}{% endfor %}\
         {% if m.tool_call_id %}{{ m.name }}={{ m.content }}{% endif %};{% endfor %}",
    )
    .expect("a template");
    assert!(chat.takes_tools());
    let call = hangar_client::v1::ToolCall {
        id: "1".into(),
        name: "weather".into(),
        arguments: "{\"city\": \"Ulm\"}".into(),
    };
    let asks = ChatMessage {
        tool_calls: vec![call],
        ..message("assistant", "")
    };
    let tells = ChatMessage {
        tool_call_id: "1".into(),
        ..message("tool", "rain")
    };
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    assert_eq!(
        chat.render(&[asks, tells], &[tool], &Map::new()),
        Ok("weather|assistant:Ulm;tool:weather=rain;".into())
    );
}

#[test]
fn the_template_named_default_is_used() {
    let template = json!({"chat_template": [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "plain"},
    ]});
    let template = serde_json::from_value(template).expect("a template");
    let chat = Chat::of(Some(&template), "").expect("a template");
    assert_eq!(chat.render(&[], &[], &Map::new()), Ok("plain".into()));
    assert_eq!(
        chat.render(&[], &[json!({})], &Map::new()),
        Ok("tools".into())
    );
    let chat = Chat::of(Some(&template), "given").expect("a template");
    assert_eq!(chat.render(&[], &[], &Map::new()), Ok("given".into()));
}
