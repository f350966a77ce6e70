//! Tokenize and Detokenize: between texts and a model's tokens.

use crate::{
    call::UnaryCall,
    client::Client,
    error::Error,
    v1::{
        ChatMessage, DetokenizeRequest, TokenizeRequest, TokenizeResponse, Tool, inference_service,
    },
};

/// A Tokenize call. Made by [`Client::tokenize`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct Tokenize {
    client: Client,
    request: TokenizeRequest,
}

/// A Detokenize call. Made by [`Client::detokenize`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct Detokenize {
    client: Client,
    request: DetokenizeRequest,
}

impl Client {
    /// Splits a text into a model's tokens. The model has to be ready.
    pub fn tokenize(&self, model_id: impl Into<String>, text: impl Into<String>) -> Tokenize {
        Tokenize::new(self.clone(), model_id.into(), text.into())
    }

    /// Puts a model's tokens together to a text. The model has to be ready.
    pub fn detokenize(
        &self,
        model_id: impl Into<String>,
        token_ids: impl Into<Vec<u32>>,
    ) -> Detokenize {
        Detokenize::new(self.clone(), model_id.into(), token_ids.into())
    }
}

impl Tokenize {
    pub(crate) fn new(client: Client, model_id: String, text: String) -> Self {
        Self {
            client,
            request: TokenizeRequest {
                model_id,
                text,
                ..Default::default()
            },
        }
    }

    /// Adds the tokens that the tokenizer puts around a text, such as that of its beginning.
    pub fn add_special_tokens(mut self) -> Self {
        self.request.add_special_tokens = true;
        self
    }

    /// Adds a message of a conversation, which takes the text's place: the model's chat template makes a prompt of
    /// it, as for [`Client::generate`].
    pub fn message(mut self, role: impl Into<String>, content: impl Into<String>) -> Self {
        self.request.messages.push(ChatMessage {
            role: role.into(),
            content: content.into(),
            ..Default::default()
        });
        self
    }

    /// A function that the model may call. Only for messages.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.request.tools.push(tool);
        self
    }

    /// Sets a variable of the chat template, for example `enable_thinking` to `false`. Only for messages.
    pub fn template_option(
        mut self,
        name: impl Into<String>,
        value: impl Into<prost_types::Value>,
    ) -> Self {
        let options = self.request.chat_template_options.get_or_insert_default();
        options.fields.insert(name.into(), value.into());
        self
    }

    /// Changes the request in ways that the other methods do not offer.
    pub fn with(mut self, change: impl FnOnce(&mut TokenizeRequest)) -> Self {
        change(&mut self.request);
        self
    }

    /// Gives the tokens. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, MODEL_NOT_LOADED or MODEL_LOADING.
    pub async fn send(self) -> Result<Vec<u32>, Error> {
        Ok(self.send_for_prompt().await?.token_ids)
    }

    /// Gives the tokens, and the prompt that the chat template made of the messages.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and INVALID_FIELD or UNSUPPORTED_BY_MODEL for messages that the model does not take.
    pub async fn send_for_prompt(self) -> Result<TokenizeResponse, Error> {
        let deadline = Some(self.client.settings().timeout);
        let call = UnaryCall {
            method: inference_service::TOKENIZE,
            deadline,
        };
        let stub = self.client.inference_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.tokenize(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }
}

impl Detokenize {
    pub(crate) fn new(client: Client, model_id: String, token_ids: Vec<u32>) -> Self {
        Self {
            client,
            request: DetokenizeRequest {
                model_id,
                token_ids,
                skip_special_tokens: false,
            },
        }
    }

    /// Leaves out tokens that stand for no text, such as that of a text's end. Not called: they show as they are named.
    pub fn skip_special_tokens(mut self) -> Self {
        self.request.skip_special_tokens = true;
        self
    }

    /// Gives the text. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with INVALID_FIELD for a token outside the vocabulary, MODEL_NOT_FOUND,
    /// MODEL_NOT_LOADED or MODEL_LOADING.
    pub async fn send(self) -> Result<String, Error> {
        let deadline = Some(self.client.settings().timeout);
        let call = UnaryCall {
            method: inference_service::DETOKENIZE,
            deadline,
        };
        let stub = self.client.inference_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.detokenize(request).await }
        };
        Ok(call
            .send(self.client.settings(), self.request, send)
            .await?
            .text)
    }
}
