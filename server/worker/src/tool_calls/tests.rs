//! Calls of functions in answers, in each format.

use super::*;

/// What the caller gets of an answer in these pieces: text, and calls as name and arguments.
fn answer(
    format: ToolCallFormat,
    prompted: bool,
    pieces: &[&str],
) -> (String, Vec<(String, String)>) {
    let names = ["weather".to_owned(), "time".to_owned()];
    let mut parser = ToolCallParser::new(format, names.to_vec(), prompted);
    let mut out = String::new();
    for piece in pieces {
        parser.push(piece, &mut out);
    }
    let calls = parser.calls(&mut out);
    if calls.is_empty() {
        parser.finish(&mut out);
    }
    let calls = calls.into_iter();
    (out, calls.map(|call| (call.name, call.arguments)).collect())
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[bounded::test]
fn calls_between_tags_are_found_behind_text() {
    let text = "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"</tool_call>\"}}\n\
                </tool_call>\n<tool_call>{\"name\": \"time\"}</tool_call>\n";
    let expected = [
        call("weather", "{\"city\":\"</tool_call>\"}"),
        call("time", "{}"),
    ];
    let one: Vec<String> = text.chars().map(String::from).collect();
    let one: Vec<&str> = one.iter().map(String::as_str).collect();
    for pieces in [vec![text], one] {
        let (out, calls) = answer(ToolCallFormat::Tagged, false, &pieces);
        assert_eq!(
            (out.as_str(), calls.as_slice()),
            ("Let me see.\n", &expected[..])
        );
    }
}

#[bounded::test]
fn a_last_tag_may_be_missing() {
    let text = "<tool_call>{\"name\": \"time\", \"arguments\": \"{\\\"zone\\\": 1}\"}";
    let (out, calls) = answer(ToolCallFormat::Tagged, false, &[text]);
    assert_eq!(
        (out.as_str(), calls),
        ("", vec![call("time", "{\"zone\":1}")])
    );
}

#[bounded::test]
fn what_is_no_call_comes_out_as_text() {
    for text in [
        "a < b",
        "<tool_call",
        "<tool_call>",
        "<tool_call>{\"name\": \"weather\"",
        "<tool_call>{\"name\": \"other\"}</tool_call>",
        "<tool_call>{\"name\": \"time\"}</tool_call> and so on",
        "<tool_call>{\"name\": \"time\", \"arguments\": 3}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
    ] {
        let (out, calls) = answer(ToolCallFormat::Tagged, false, &[text]);
        assert_eq!((out.as_str(), calls), (text, Vec::new()));
    }
}

#[bounded::test]
fn an_opening_that_is_only_mentioned_holds_nothing_back() {
    let thought = "<think>I write it in <tool_call></tool_call> tags, <tool_call>{not this}</tool_call>.</think>\n";
    let text = format!("{thought}<tool_call>{{\"name\": \"time\"}}</tool_call>");
    let (out, calls) = answer(ToolCallFormat::Tagged, false, &[&text]);
    assert_eq!((out.as_str(), calls), (thought, vec![call("time", "{}")]));
    let mut parser = ToolCallParser::new(ToolCallFormat::Tagged, Vec::new(), false);
    let mut out = String::new();
    parser.push("in <tool_call> tags", &mut out);
    assert_eq!(out, "in <tool_call> tags");
}

#[bounded::test]
fn arguments_are_found_under_the_names_of_all_notations() {
    for format in [
        ToolCallFormat::Tagged,
        ToolCallFormat::Bare,
        ToolCallFormat::Listed,
    ] {
        for key in ["arguments", "parameters"] {
            let text = format!("{{\"name\": \"time\", \"{key}\": {{\"a\": 1}}}}");
            let text = match format {
                ToolCallFormat::Listed => format!("[{text}]"),
                _ => text,
            };
            let (_, calls) = answer(format, true, &[&text]);
            assert_eq!(calls, [call("time", "{\"a\":1}")], "{text}");
        }
    }
}

#[bounded::test]
fn references_of_a_schema_point_to_where_it_lies() {
    let function = Function {
        name: "f".to_owned(),
        definition: Value::Null,
        parameters: json!({
            "$defs": {"a": {"type": "null"}},
            "properties": {"x": {"$ref": "#/$defs/a"}, "y": {"const": {"$ref": "#"}}},
        }),
    };
    let schema = ToolCallFormat::Bare.schema(&[&function, &function]);
    let of = |n: usize| schema["anyOf"][n]["properties"]["parameters"]["properties"].clone();
    assert_eq!(
        of(1)["x"]["$ref"],
        "#/anyOf/1/properties/parameters/$defs/a"
    );
    assert_eq!(of(0)["y"]["const"]["$ref"], "#");
    let schema = ToolCallFormat::Listed.schema(&[&function]);
    let x = schema.pointer("/items/anyOf/0/properties/arguments/properties/x/$ref");
    assert_eq!(
        x,
        Some(&json!("#/items/anyOf/0/properties/arguments/$defs/a"))
    );
}

#[bounded::test]
fn a_list_of_calls_is_found() {
    let text = "[TOOL_CALLS] [{\"name\": \"time\", \"arguments\": {}}, {\"name\": \"weather\", \"arguments\": {\"a\": 1}}]";
    let (out, calls) = answer(ToolCallFormat::Listed, false, &[text]);
    let expected = vec![call("time", "{}"), call("weather", "{\"a\":1}")];
    assert_eq!((out.as_str(), calls), ("", expected));
    let (out, calls) = answer(ToolCallFormat::Listed, false, &["[TOOL_CALLS] none"]);
    assert_eq!((out.as_str(), calls), ("[TOOL_CALLS] none", Vec::new()));
}

#[bounded::test]
fn an_answer_that_is_an_object_is_a_call() {
    let text = "\n{\"name\": \"time\", \"parameters\": {\"b\": [1]}}; {\"name\": \"time\", \"parameters\": {}}";
    let (out, calls) = answer(ToolCallFormat::Bare, false, &["\n", &text[1..]]);
    let expected = vec![call("time", "{\"b\":[1]}"), call("time", "{}")];
    assert_eq!((out.as_str(), calls), ("", expected));
    for text in ["\n It is {\"name\": \"time\"}", "{\"a\": 1}", " "] {
        let (out, calls) = answer(ToolCallFormat::Bare, false, &[text]);
        assert_eq!((out.as_str(), calls), (text, Vec::new()));
    }
}

#[bounded::test]
fn behind_a_prompt_with_the_opening_the_answer_is_a_call() {
    let text = "{\"name\": \"time\", \"arguments\": {}}";
    for (format, text) in [
        (ToolCallFormat::Tagged, text.to_owned()),
        (ToolCallFormat::Listed, format!("[{text}]")),
        (
            ToolCallFormat::Bare,
            text.replace("arguments", "parameters"),
        ),
    ] {
        let (out, calls) = answer(format, true, &[&text]);
        assert_eq!((out.as_str(), calls), ("", vec![call("time", "{}")]));
        let cut = &text[..20];
        let (out, calls) = answer(format, true, &[cut]);
        assert_eq!((out.as_str(), calls), (cut, Vec::new()));
    }
}

#[bounded::test]
fn ids_are_distinct() {
    let parser = ToolCallParser::new(ToolCallFormat::Bare, vec!["time".to_owned()], true);
    let id = || parser.call(json!({"name": "time"})).map(|call| call.id);
    let (one, other) = (id().expect("a call"), id().expect("a call"));
    assert_ne!(one, other);
    assert!(one.len() == ID && one.chars().all(|c| c.is_ascii_alphanumeric()));
}

#[bounded::test]
fn a_schema_allows_one_call_of_one_of_the_functions() {
    let function = |name: &str| Function {
        name: name.to_owned(),
        definition: Value::Null,
        parameters: json!({"type": "object"}),
    };
    let (a, b) = (function("a"), function("b"));
    let schema = ToolCallFormat::Bare.schema(&[&a, &b]);
    assert_eq!(
        schema["anyOf"][1]["properties"]["name"],
        json!({"const": "b"})
    );
    assert_eq!(
        schema["anyOf"][0]["required"],
        json!(["name", "parameters"])
    );
    let schema = ToolCallFormat::Listed.schema(&[&a]);
    assert_eq!(schema["maxItems"], 1);
    assert_eq!(
        schema["items"]["anyOf"][0]["required"],
        json!(["name", "arguments"])
    );
}

#[bounded::test]
fn the_notation_is_that_of_the_template() {
    for (template, format) in [
        (
            "{% if tools %}… <tool_call></tool_call> XML tags",
            Some(ToolCallFormat::Tagged),
        ),
        ("<tool_call>\n<function=name>", None),
        ("{{ '[TOOL_CALLS] [' }}", Some(ToolCallFormat::Listed)),
        ("[TOOL_CALLS]name[ARGS]{}", None),
        (
            "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its value}.",
            Some(ToolCallFormat::Bare),
        ),
        ("{{ messages }}", None),
    ] {
        assert_eq!(ToolCallFormat::of(template), format, "{template}");
    }
}
