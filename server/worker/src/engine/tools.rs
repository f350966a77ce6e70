//! The functions of a request: what the chat template gets of them, and how one of them is called.
//!
//! A call that has to be made is begun in the prompt: it ends with the opening of the model's format, and a
//! grammar leaves nothing but a call of one of the functions in question.

use hangar_client::v1::{Constraint, GenerateRequest, Tool, constraint::Constraint as Notation};
use serde_json::{Map, Value, json};
use tonic::Status;

use crate::{
    engine::{
        Engine,
        chat::ChatTemplate,
        json::{json_object, json_object_of_text},
    },
    grpc_error,
    tool_calls::{Function, ToolCallParser},
};

/// Deepest nesting of a function's schema.
const MAX_DEPTH: usize = 32;

/// What a request's functions come to.
#[derive(Default)]
pub(crate) struct Tools {
    /// For the chat template.
    pub(crate) functions: Vec<Value>,
    /// What the prompt is to end with.
    pub(crate) opening: &'static str,
    /// What a call that has to be made conforms to.
    pub(crate) constraint: Option<Constraint>,
    /// Finds calls in the answer.
    pub(crate) parser: Option<ToolCallParser>,
}

impl Engine {
    /// Why the model cannot be offered functions.
    pub(super) fn why_no_tools(&self) -> Option<String> {
        let chat = self.chat.as_ref().ok()?;
        tool_call_format(chat).err()
    }

    /// The functions of a request whose prompt is only to be shown: calls are not looked for, so that it makes no
    /// difference how the model writes them.
    pub(super) fn shown_tools(&self, request: &GenerateRequest) -> Result<Tools, Status> {
        let unknown = |chat: &ChatTemplate| chat.takes_tools() && chat.tool_call_format().is_none();
        let leaves_open = matches!(request.tool_choice.as_str(), "" | "auto");
        if leaves_open && self.chat.as_ref().is_ok_and(unknown) {
            let functions = functions(request)?;
            return Ok(Tools {
                functions: functions.into_iter().map(|it| it.definition).collect(),
                ..Tools::default()
            });
        }
        self.tools(request)
    }

    /// The functions that a request offers to the model; none if it may call none of them.
    pub(crate) fn tools(&self, request: &GenerateRequest) -> Result<Tools, Status> {
        let choice = request.tool_choice.as_str();
        if request.tools.is_empty() || choice == "none" {
            return Ok(Tools::default());
        }
        let Ok(chat) = &self.chat else {
            // Making the prompt will say why.
            return Ok(Tools::default());
        };
        let refused = |why| grpc_error::unsupported_by_model(format!("tools: {why}"));
        let format = tool_call_format(chat).map_err(refused)?;
        let functions = functions(request)?;
        let callable: Vec<&Function> = match choice {
            "" | "auto" | "required" => functions.iter().collect(),
            name => functions.iter().filter(|it| it.name == name).collect(),
        };
        if callable.is_empty() {
            return Err(grpc_error::invalid_field(
                "tool_choice",
                "is no name of a tool",
            ));
        }
        let has_to = !matches!(choice, "" | "auto");
        let names = callable.iter().map(|it| it.name.clone()).collect();
        let schema = || Notation::JsonSchema(format.schema(&callable).to_string());
        Ok(Tools {
            opening: if has_to { format.prompt() } else { "" },
            constraint: has_to.then(|| Constraint {
                constraint: Some(schema()),
            }),
            parser: Some(ToolCallParser::new(format, names, has_to)),
            functions: functions.into_iter().map(|it| it.definition).collect(),
        })
    }
}

fn tool_call_format(chat: &ChatTemplate) -> Result<crate::tool_calls::ToolCallFormat, String> {
    if !chat.takes_tools() {
        return Err(
            "the model's chat template has no place for them; leave them out, or give the model a chat \
             template that has one"
                .into(),
        );
    }
    chat.tool_call_format().ok_or_else(|| {
        "this server does not know how the model writes calls; it knows the ways of Hermes and Qwen \
         (<tool_call> and JSON), Mistral ([TOOL_CALLS] and a JSON list) and Llama 3 (JSON with parameters)"
            .into()
    })
}

fn functions(request: &GenerateRequest) -> Result<Vec<Function>, Status> {
    let functions = request.tools.iter().enumerate();
    functions.map(|(n, tool)| function(n, tool)).collect()
}

/// The function that is the tool at place `n`.
fn function(n: usize, tool: &Tool) -> Result<Function, Status> {
    let field = |name: &str| format!("tools[{n}].{name}");
    let json = |name: &str, text: &str| {
        json_object_of_text(text).map_err(|why| grpc_error::invalid_field(&field(name), why))
    };
    let parameters = match &tool.parameters {
        Some(given) => Some(json_object(given, MAX_DEPTH).ok_or_else(|| {
            grpc_error::invalid_field(&field("parameters"), "is nested too deeply")
        })?),
        None if tool.parameters_json.is_empty() => None,
        None => Some(json("parameters_json", &tool.parameters_json)?),
    };
    let definition = match tool.definition_json.as_str() {
        "" => definition(tool, parameters.as_ref()),
        text => json("definition_json", text)?.into(),
    };
    let mut parameters = parameters.unwrap_or_default();
    parameters.entry("type").or_insert_with(|| json!("object"));
    Ok(Function {
        name: tool.name.clone(),
        parameters: Value::Object(parameters),
        definition,
    })
}

/// A function as chat templates get it.
fn definition(tool: &Tool, parameters: Option<&Map<String, Value>>) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.as_str().into());
    }
    if let Some(parameters) = parameters {
        function.insert("parameters".into(), parameters.clone().into());
    }
    json!({"type": "function", "function": function})
}
