//! Chat templates as models have them.

use serde_json::json;

use super::*;

fn special() -> Map<String, Json> {
    Map::from_iter([("bos_token".to_owned(), "<s>".into())])
}

fn chat(source: &str) -> Result<ChatTemplate, String> {
    ChatTemplate::of(&Templates::one(source), &special(), "")
}

fn given(source: &str) -> Result<ChatTemplate, String> {
    ChatTemplate::of(&Templates::default(), &special(), source)
}

/// Of a caller who waits.
fn never() -> CancellationToken {
    CancellationToken::new()
}

/// What a template makes of no messages.
fn written(source: &str) -> Result<String, String> {
    chat(source)?.render(&[], &[], &Map::new(), &never())
}

fn render(chat: &ChatTemplate, messages: &[ChatMessage], tools: &[Json]) -> Result<String, String> {
    let messages: Vec<Message<'_>> = messages
        .iter()
        .map(|message| Message {
            message,
            content: match message.content.as_str() {
                "" => Content::None,
                text => Content::Text(text.into()),
            },
            fields: Map::new(),
        })
        .collect();
    chat.render(&messages, tools, &Map::new(), &never())
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage {
        role: role.into(),
        content: content.into(),
        ..ChatMessage::default()
    }
}

#[bounded::test]
fn a_conversation_is_rendered() {
    let chat = chat(
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}\
         {% if add_generation_prompt %}[assistant]{% endif %}",
    )
    .expect("a template");
    let prompt = render(&chat, &[message("user", "a <b>")], &[]);
    assert_eq!(prompt, Ok("<s>[user]a <b>\n[assistant]".into()));
}

#[bounded::test]
fn nothing_is_written_for_one_who_has_gone() {
    let endless = "{% if begin %}{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}\
                   {{ a }}{% endfor %}{% endfor %}{% endfor %}{% endif %}";
    let (chat, cancelled) = (chat(endless).expect("a template"), never());
    cancelled.cancel();
    let begin = Map::from_iter([("begin".to_owned(), json!(true))]);
    assert!(chat.render(&[], &[], &begin, &cancelled).is_err());
}

#[bounded::test]
fn options_take_precedence_and_nothing_else_is_defined() {
    let chat = chat(
        "{{ bos_token }}{{ add_generation_prompt }}{% for it in [enable_thinking, reasoning_effort, date_string] %}\
         {{ it is defined }}{% endfor %}{{ tools is none }}{{ documents is none }}",
    )
    .expect("a template");
    let shown = |options| {
        let shown = chat.render(&[], &[], &options, &never());
        shown.expect("a prompt")
    };
    assert_eq!(shown(Map::new()), "<s>TrueFalseFalseFalseTrueTrue");
    let options = [
        ("enable_thinking", json!(false)),
        ("bos_token", json!("<b>")),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(
        shown(options.into_iter().collect()),
        "<b>TrueTrueFalseFalseTrueTrue"
    );
}

#[bounded::test]
fn a_broken_template_is_an_error_with_its_cause() {
    let error = chat("{% for x in %}").expect_err("broken");
    assert!(error.contains("broken"), "{error}");
    assert!(given("").is_err());
}

#[bounded::test]
fn what_a_template_raises_is_the_message_of_the_error() {
    let chat = chat("{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}")
        .expect("a template");
    let error = render(&chat, &[message("system", "x")], &[]);
    assert!(error.is_err_and(|e| e.starts_with("no")));
}

#[bounded::test]
fn marks_of_generation_cut_white_space_and_nothing_else() {
    let chat = chat("a {%- generation -%} {{ messages[0].content }} {%- endgeneration -%} b")
        .expect("a template");
    let prompt = render(&chat, &[message("user", "x")], &[]);
    assert_eq!(prompt, Ok("axb".into()));
}

#[bounded::test]
fn a_template_that_wants_a_system_message_takes_conversations_with_one() {
    let source = "{% if messages[0].role != 'system' %}{{ raise_exception('a system message is needed') }}\
                  {% endif %}{{ messages[1].content }}";
    let chat = chat(source).expect("a template");
    let messages = [message("system", "x"), message("user", "y")];
    assert_eq!(render(&chat, &messages, &[]), Ok("y".into()));
    assert!(render(&chat, &messages[1..], &[]).is_err());
    assert!(given(source).is_ok());
    assert!(given("{{ raise_exception('never') }}").is_err());
}

#[bounded::test]
fn what_a_template_says_is_not_too_long() {
    let chat = chat("{{ raise_exception('bad: ' ~ messages[0].content) }}").expect("a template");
    let error = render(&chat, &[message("user", &"x".repeat(100_000))], &[]);
    assert!(error.is_err_and(|why| why.len() < 1000));
}

/// Templates without messages, and what they write.
const PYTHON: &[(&str, &str)] = &[
    ("{{ range(3, -1, -1)|list }}", "[3, 2, 1, 0]"),
    ("{{ 'abc'[::-1] }}{{ 'añb'.find('b') }}", "cba2"),
    (
        "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}\
          {{ i }}{% endfor %}",
        "013",
    ),
    ("{{ '%s is %05.1f%%' % ('x', 2) }}", "x is 002.0%"),
    ("{{ '%s' % [1, 'a'] }}|{{ 7 % 3 }}", "[1, 'a']|1"),
    (
        "{{ 'a b  c'.split() }}{{ 'a,b'.split(',')[-1] }}",
        "['a', 'b', 'c']b",
    ),
    ("{{ ' x\\n'.strip() ~ 'x.y'.partition('.')[2] }}", "xy"),
    (
        "{{ {'b': 1, 'a': [true, none]} }}",
        "{'b': 1, 'a': [True, None]}",
    ),
    (
        "{{ 'x' is sequence }}{{ {} is sequence }}{{ 'x' is iterable }}{{ 3 is iterable }}",
        "TrueTrueTrueFalse",
    ),
    (
        "{{ true is number }}{{ [] is mapping }}{{ {} is mapping }}",
        "TrueFalseTrue",
    ),
    (
        "{{ 1e16 }} {{ 0.1 + 0.2 }} {{ 2.0 }}",
        "1e+16 0.30000000000000004 2.0",
    ),
    ("{{ missing }}{{ missing|length }}{{ 'x' ~ missing }}", "0x"),
    (
        "{% set ns = namespace(a=1) %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}",
        "4",
    ),
    (
        "{{ 'aXbX'|replace('X', '-', 1) }}{{ '7'|int + 1 }}",
        "a-bX8",
    ),
    ("{{ strftime_now('%%|%q').startswith('%|') }}", "True"),
    (
        "{{ [1, 2]|map('string')|list|tojson }}{{ {'a': 1}.items()|list }}",
        "[\"1\", \"2\"][['a', 1]]",
    ),
    (
        "{% for x in ['a']|select('string') %}{{ loop.last }}{{ loop.length }}{% endfor %}",
        "True1",
    ),
    ("{{ dict(b=1, a=2) }}", "{'b': 1, 'a': 2}"),
];

#[bounded::test]
fn templates_have_the_methods_of_python() {
    for (source, expected) in PYTHON {
        assert_eq!(written(source), Ok((*expected).into()), "{source}");
    }
}

#[bounded::test]
fn what_is_an_error_in_python_is_one_in_templates() {
    for source in [
        "{% for x in none %}{% endfor %}",
        "{{ [1]|map('string')|tojson }}",
        "{{ {'a': 1}.items()|tojson }}",
        "{{ missing.x }}",
        "{{ 'a' + missing }}",
        "{{ missing|tojson }}",
        "{{ [].append(1) }}",
    ] {
        assert!(written(source).is_err(), "{source}");
    }
}

#[bounded::test]
fn json_is_written_as_python_writes_it() {
    let chat = chat("{{ tools[0]|tojson }}").expect("a template");
    let tool = json!({"b": [1.0, 1e20, null], "a": {"x": "<&'é\u{1}\""}, "e": [], "f": {}});
    let plain = r#"{"b": [1.0, 1e+20, null], "a": {"x": "<&'é\u0001\""}, "e": [], "f": {}}"#;
    assert_eq!(
        chat.render(&[], std::slice::from_ref(&tool), &Map::new(), &never()),
        Ok(plain.into())
    );
    for (arguments, expected) in [
        ("indent=2", "{\n  \"b\": [\n    1\n  ],\n  \"a\": {}\n}"),
        ("separators=(',', ':')", "{\"b\":[1],\"a\":{}}"),
        ("sort_keys=true", "{\"a\": {}, \"b\": [1]}"),
        ("true", "{\"b\": [1], \"a\": {}}"),
    ] {
        let source = format!("{{{{ {{'b': [1], 'a': {{}}}}|tojson({arguments}) }}}}");
        assert_eq!(written(&source), Ok(expected.into()), "{arguments}");
    }
    assert_eq!(
        written("{{ 'é😀'|tojson(ensure_ascii=true) }}"),
        Ok(r#""\u00e9\ud83d\ude00""#.into())
    );
}

#[bounded::test]
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
        name: "weather".into(),
        ..message("tool", "rain")
    };
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    assert_eq!(
        render(&chat, &[asks, tells], &[tool]),
        Ok("weather|assistant:Ulm;tool:weather=rain;".into())
    );
}

#[bounded::test]
fn the_template_named_default_is_used_and_another_with_tools() {
    let templates = json!([
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "plain"},
    ]);
    let templates = Templates::listed(templates.as_array().expect("a list"));
    let chat = |given| ChatTemplate::of(&templates, &special(), given).expect("a template");
    let tool = [json!({})];
    for (given, plain, tools) in [("", "plain", "tools"), ("given", "given", "given")] {
        let chat = chat(given);
        assert_eq!(render(&chat, &[], &[]), Ok(plain.into()));
        assert_eq!(render(&chat, &[], &tool), Ok(tools.into()));
    }
    let named = |name: &str| Templates::listed(&[json!({"name": name, "template": "x"})]);
    let chat = ChatTemplate::of(&named("tool_use"), &special(), "").expect("a template");
    assert!(render(&chat, &[], &[]).is_err_and(|why| why.contains("with tools only")));
    let none = ChatTemplate::of(&named("rag"), &special(), "").expect_err("none");
    assert!(none.contains("rag"), "{none}");
}

#[bounded::test]
fn a_template_gets_content_in_the_form_that_it_takes() {
    let parts = Content::Parts(vec![
        MessagePart::Image("<img>"),
        MessagePart::Text("a".into()),
    ]);
    let message = message("user", "");
    for (source, expected) in [
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "<img>a",
        ),
        (
            "{% for m in messages %}{{ '' + m.content }}{% endfor %}",
            "<img>a",
        ),
        (
            "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}\
             [{{ p.type }}{{ p.text }}]{% endfor %}{% endif %}{% endfor %}",
            "[image][texta]",
        ),
        (
            "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}\
             {% endfor %}{% endfor %}",
            "a",
        ),
    ] {
        let chat = chat(source).expect("a template");
        let messages = [Message {
            message: &message,
            content: parts.clone(),
            fields: Map::new(),
        }];
        assert_eq!(
            chat.render(&messages, &[], &Map::new(), &never()),
            Ok(expected.into()),
            "{source}"
        );
    }
}
