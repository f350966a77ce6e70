//! The first answers of a model, before anybody else's: a load can succeed and every request fail.

use std::{io::Cursor, sync::Arc, time::Duration};

use hangar_client::v1::{ChatMessage, ContentPart, GenerateRequest, content_part::Part};
use hangar_worker_protocol::v1::generate_response::Event;
use image::{DynamicImage, ImageFormat, RgbImage};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    engine::{
        Engine,
        answer::AnswerRules,
        prompt::Prompt,
        sampling::{SamplingRules, TokenSampler},
        token_rules::TokenRules,
        token_selector::TokenSelector,
    },
    grpc_error,
};

/// Pixels on the side of the first image.
const SIDE: u32 = 64;

impl Engine {
    /// Answers a short prompt: with a vector, or with a token and, where the model takes images, one from an
    /// image. The error says why there is none.
    pub(crate) async fn warm_up(self: &Arc<Self>) -> Result<(), Status> {
        let never = CancellationToken::new();
        let tokens = self.vocabulary.encode("Hello", true, &never);
        let tokens = tokens.unwrap_or_default();
        let known = |token: &u32| *token < self.vocabulary.size();
        let mut tokens: Vec<u32> = tokens.into_iter().filter(known).collect();
        if tokens.is_empty() {
            tokens.push(0);
        }
        tokens.truncate(self.context_length().saturating_sub(1).max(1));
        if self.embedder.is_some() {
            return self.compute(vec![tokens]).await.map(drop);
        }
        let prompt = Prompt {
            tokens,
            max_tokens: 1,
            rules: AnswerRules::default(),
            image_prompt: None,
            call: None,
            prompt_logprobs: None,
        };
        self.first_token(prompt).await?;
        match self.first_image() {
            Some(prompt) => self.first_token(prompt).await,
            None => Ok(()),
        }
    }

    /// A prompt with an image; `None` where images cannot be used or do not fit into the context.
    fn first_image(&self) -> Option<Prompt> {
        self.images.as_ref()?;
        let image = DynamicImage::ImageRgb8(RgbImage::new(SIDE, SIDE));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).ok()?;
        let part = ContentPart {
            part: Some(Part::Image(bytes.into_inner().into())),
        };
        let request = GenerateRequest {
            messages: vec![ChatMessage {
                role: "user".into(),
                parts: vec![part],
                ..ChatMessage::default()
            }],
            max_tokens: 1,
            ..GenerateRequest::default()
        };
        self.prompt(&request, 0, &CancellationToken::new())
            .inspect_err(|status| {
                tracing::warn!(why = status.message(), "images were not tried");
            })
            .ok()
    }

    async fn first_token(self: &Arc<Self>, prompt: Prompt) -> Result<(), Status> {
        let tokens = TokenRules::with_eos(Arc::clone(&self.eos_token_ids));
        let selector = TokenSelector::new(
            TokenSampler::new(SamplingRules::greedy(), &[], None),
            tokens,
        );
        let mut responses = self.run(prompt, selector, Duration::ZERO);
        while let Some(response) = tokio_stream::StreamExt::next(&mut responses).await {
            if let Some(Event::Done(_)) = response?.event {
                return Ok(());
            }
        }
        Err(grpc_error::internal("the answer ended without its end"))
    }
}
