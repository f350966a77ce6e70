//! Functions that a model may call, as arguments, and its calls.

use hangar_client::v1::{Tool, ToolCall};
use serde_json::Value;

use crate::{json, output::Failure};

/// Functions from a JSON list of objects with `name`, `description` and `parameters`, each of them by itself
/// or, as OpenAI's API has it, in the field `function`.
pub(crate) fn tools(text: &str) -> Result<Vec<Tool>, Failure> {
    let given: Vec<Value> = serde_json::from_str(text).map_err(|error| {
        Failure::Usage(format!(
            "--tools takes a JSON list of objects with name, description and parameters: {error}"
        ))
    })?;
    let tools = given.iter().map(|given| {
        let Some(function) = given.get("function") else {
            return json::from_str("hangar.v1.Tool", &given.to_string());
        };
        // OpenAI's has fields that mean nothing here, such as "strict".
        let own = ["name", "description", "parameters"];
        let own = own
            .iter()
            .filter_map(|name| Some((*name, function.get(name)?.clone())));
        let tool: Value = own.collect();
        json::from_str("hangar.v1.Tool", &tool.to_string())
    });
    let tools = tools.zip(&given).map(|(tool, given)| {
        let tool: Tool = tool?;
        let parameters = given.get("function").unwrap_or(given).get("parameters");
        Ok(match parameters {
            // As it was written.
            Some(schema) if tool.parameters.is_some() => Tool {
                parameters: None,
                parameters_json: schema.to_string(),
                ..tool
            },
            _ => tool,
        })
    });
    tools.collect()
}

/// A call in one line.
pub(super) fn line(call: &ToolCall) -> String {
    format!("{} {}", call.name, call.arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn functions_are_given_as_hangar_or_openai_have_them() {
        let text = r#"[{"name": "time"},
            {"type": "function", "function": {"name": "weather", "description": "Tells it.", "strict": true,
             "parameters": {"type": "object"}}}]"#;
        let tools = tools(text).ok().unwrap_or_default();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["time", "weather"]);
        assert_eq!(tools[0].parameters_json, "");
        assert_eq!(tools[1].parameters_json, r#"{"type":"object"}"#);
        assert_eq!(tools[1].description, "Tells it.");
    }

    #[bounded::test]
    fn what_is_no_list_of_functions_is_refused() {
        for text in [
            "",
            "{}",
            "[1]",
            r#"[{"named": "f"}]"#,
            r#"[{"name": "f", "parameters": 1}]"#,
        ] {
            assert!(matches!(tools(text), Err(Failure::Usage(_))), "{text}");
        }
    }
}
