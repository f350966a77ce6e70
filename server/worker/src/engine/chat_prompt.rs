//! From a conversation to the text of its prompt and its tokens.

use hangar_client::v1::{GenerateRequest, TokenizeRequest};
use hangar_worker_protocol::v1::DetokenizeRequest;
use prost::Message;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    engine::{
        Engine,
        conversation::{Conversation, PlacedImage},
        json::{json_object, json_object_of_text},
        text_refusal::{plain_refused, text_refused},
        tools::Tools,
    },
    grpc_error,
};

/// Deepest nesting of template options.
const MAX_DEPTH: usize = 16;

/// A conversation in the model's chat template.
pub(super) struct ChatPrompt {
    /// What the template made, and the beginning of a call that has to be made.
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// The text that the engine makes the same tokens of if there are images.
    pub(super) for_engine: String,
}

impl Engine {
    /// The prompt of a conversation, which `request` has beside other things.
    pub(super) fn chat_prompt(
        &self,
        request: &GenerateRequest,
        conversation: &Conversation<'_>,
        tools: &Tools,
        cancelled: &CancellationToken,
    ) -> Result<ChatPrompt, Status> {
        let chat = self.chat.as_ref().map_err(|why| {
            grpc_error::unsupported_by_model(format!(
                "this model cannot take messages, since {why}; use prompt instead, or give the model \
                 a chat template"
            ))
        })?;
        let options = options(request)?;
        let memory = self
            .vocabulary
            .wait_to_render(request.encoded_len(), cancelled)
            .map_err(|why| text_refused("messages", why))?;
        let messages = &conversation.messages;
        let rendered = chat.render(messages, &tools.functions, &options, cancelled);
        drop(memory);
        if cancelled.is_cancelled() {
            return Err(grpc_error::unloaded());
        }
        let mut text = rendered.map_err(|why| {
            grpc_error::invalid_field(
                "messages",
                format!("the model's chat template refuses them: {why}"),
            )
        })?;
        if !tools.opening.is_empty() && text.trim_end().ends_with("<think>") {
            // A call that has to be made is not thought about.
            text.push_str("</think>\n\n");
        }
        text.push_str(tools.opening);
        let (tokens, for_engine) = self.chat_tokens(&text, &conversation.images, cancelled)?;
        Ok(ChatPrompt {
            text,
            tokens,
            for_engine,
        })
    }

    fn chat_tokens(
        &self,
        text: &str,
        images: &[PlacedImage<'_>],
        cancelled: &CancellationToken,
    ) -> Result<(Vec<u32>, String), Status> {
        let bos = self.bos_token.as_deref();
        if !images.is_empty() {
            return self.image_tokens(bos, text, images, cancelled);
        }
        let mut tokens = self.encode_as("messages", text, self.add_bos_to_chats, cancelled)?;
        // A template that writes the token of a text's beginning meets a tokenizer that adds it.
        if self.add_bos_to_chats
            && let Some(bos) = bos.filter(|bos| text.starts_with(bos))
            && let Some(bos) = self.vocabulary.token(bos)
            && tokens.starts_with(&[bos, bos])
        {
            tokens.remove(0);
        }
        Ok((tokens, String::new()))
    }

    /// The tokens of a text or a conversation, and the prompt that was made of the latter. Blocks for as long as it
    /// is long.
    pub(crate) fn tokenize(
        &self,
        request: TokenizeRequest,
        cancelled: &CancellationToken,
    ) -> Result<(Vec<u32>, String), Status> {
        if request.messages.is_empty() {
            let special = request.add_special_tokens;
            let tokens = self.vocabulary.encode(&request.text, special, cancelled);
            let tokens = tokens.map_err(|why| plain_refused("text", why))?;
            return Ok((tokens, String::new()));
        }
        let request = GenerateRequest {
            messages: request.messages,
            tools: request.tools,
            tool_choice: request.tool_choice,
            chat_template_options: request.chat_template_options,
            chat_template_options_json: request.chat_template_options_json,
            ..GenerateRequest::default()
        };
        let conversation = self.conversation(&request.messages)?;
        let tools = self.shown_tools(&request)?;
        let prompt = self.chat_prompt(&request, &conversation, &tools, cancelled)?;
        Ok((prompt.tokens, prompt.text))
    }

    /// The text of these tokens. Blocks for as long as there are many.
    pub(crate) fn detokenize(
        &self,
        request: &DetokenizeRequest,
        cancelled: &CancellationToken,
    ) -> Result<String, Status> {
        let tokens = &request.token_ids;
        let checked = self.vocabulary.check(tokens);
        checked.map_err(|why| grpc_error::invalid_field("token_ids", why))?;
        let text = self
            .vocabulary
            .decode(tokens, request.skip_special_tokens, cancelled);
        text.map_err(|why| plain_refused("token_ids", why))
    }
}

/// The caller's variables for the chat template.
fn options(request: &GenerateRequest) -> Result<Map<String, Value>, Status> {
    let refused = |field, why: &str| grpc_error::invalid_field(field, why);
    match &request.chat_template_options {
        Some(options) => json_object(options, MAX_DEPTH)
            .ok_or_else(|| refused("chat_template_options", "is nested too deeply")),
        None if request.chat_template_options_json.is_empty() => Ok(Map::new()),
        None => json_object_of_text(&request.chat_template_options_json)
            .map_err(|why| refused("chat_template_options_json", &why)),
    }
}
