//! Tokenize and Detokenize: between texts and a model's tokens.

use crate::{
    call::UnaryCall,
    client::Client,
    error::Error,
    v1::{DetokenizeRequest, TokenizeRequest},
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

impl Tokenize {
    pub(crate) fn new(client: Client, model_id: String, text: String) -> Self {
        Self {
            client,
            request: TokenizeRequest {
                model_id,
                text,
                add_special_tokens: false,
            },
        }
    }

    /// Adds the tokens that the tokenizer puts around a text, such as that of its beginning.
    pub fn add_special_tokens(mut self) -> Self {
        self.request.add_special_tokens = true;
        self
    }

    /// Gives the tokens. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, MODEL_NOT_LOADED or MODEL_LOADING.
    pub async fn send(self) -> Result<Vec<u32>, Error> {
        let deadline = Some(self.client.settings().timeout);
        let call = UnaryCall {
            method: "hangar.v1.InferenceService/Tokenize",
            deadline,
        };
        let stub = self.client.inference_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.tokenize(request).await }
        };
        Ok(call
            .send(self.client.settings(), self.request, send)
            .await?
            .token_ids)
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

    /// Leaves out tokens such as that of a text's end.
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
            method: "hangar.v1.InferenceService/Detokenize",
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
