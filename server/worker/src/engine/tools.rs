//! The functions of a request: what the chat template gets of them, and how one of them is called.
//!
//! A call that has to be made is begun in the prompt: it ends with the opening of the model's notation, and a
//! grammar leaves nothing but a call of one of the functions in question.

use hangar_client::v1::{Constraint, GenerateRequest, constraint::Constraint as Notation};
use serde_json::{Value, json};
use tonic::Status;

use crate::{
    calls::{CallWatch, Function},
    engine::{Engine, chat::Chat, json::json_object},
    status,
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
    pub(crate) watch: Option<CallWatch>,
}

impl Engine {
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
        let notation = notation(chat)?;
        let functions = functions(request)?;
        let callable: Vec<&Function> = match choice {
            "" | "auto" | "required" => functions.iter().collect(),
            name => functions.iter().filter(|it| it.name == name).collect(),
        };
        if callable.is_empty() {
            return Err(status::invalid_field("tool_choice", "is no name of a tool"));
        }
        let has_to = !matches!(choice, "" | "auto");
        let names = callable.iter().map(|it| it.name.clone()).collect();
        let schema = || Notation::JsonSchema(notation.schema(&callable).to_string());
        Ok(Tools {
            opening: if has_to { notation.prompt() } else { "" },
            constraint: has_to.then(|| Constraint {
                constraint: Some(schema()),
            }),
            watch: Some(CallWatch::new(notation, names, has_to)),
            functions: functions.iter().map(Function::for_template).collect(),
        })
    }
}

fn notation(chat: &Chat) -> Result<crate::calls::Notation, Status> {
    if !chat.takes_tools() {
        return Err(status::unsupported_by_model(
            "tools: the model's chat template has no place for them; leave them out, or give the model a \
             chat template that has one",
        ));
    }
    chat.notation().ok_or_else(|| {
        status::unsupported_by_model(
            "tools: this server does not know how the model writes calls; it knows the ways of Hermes and \
             Qwen (<tool_call> and JSON), Mistral ([TOOL_CALLS] and a JSON list) and Llama 3 (JSON with \
             parameters)",
        )
    })
}

fn functions(request: &GenerateRequest) -> Result<Vec<Function>, Status> {
    let functions = request.tools.iter().enumerate().map(|(n, tool)| {
        let given = tool.parameters.clone().unwrap_or_default();
        let mut parameters = json_object(&given, MAX_DEPTH).ok_or_else(|| {
            let field = format!("tools[{n}].parameters");
            status::invalid_field(&field, "is nested too deeply")
        })?;
        parameters.entry("type").or_insert_with(|| json!("object"));
        Ok(Function {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: Value::Object(parameters),
        })
    });
    functions.collect()
}
