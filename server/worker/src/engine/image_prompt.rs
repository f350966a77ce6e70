//! A prompt with images, as the engine gets it.
//!
//! The engine puts a conversation into a chat template, takes its tokens, and puts each image's tokens in
//! their place by turning the tokens into text and back. The same is done here beforehand, so that what the
//! engine will compute is known and fits.

use image::DynamicImage;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    engine::{Engine, conversation::PlacedImage, text_refusal::text_refused},
    grpc_error,
    vision::ImageSize,
};

/// A prompt with images.
#[derive(Debug)]
pub(crate) struct ImagePrompt {
    /// The prompt with a mark for each image.
    pub(crate) text: String,
    /// The images at the size at which the model looks at them, in order.
    pub(crate) images: Vec<DynamicImage>,
    /// Patches that the vision encoder computes.
    pub(crate) patches: usize,
}

impl Engine {
    /// The tokens that the engine makes of a prompt with images, and the text that it has to get for it.
    pub(super) fn image_tokens(
        &self,
        bos: Option<&str>,
        prompt: &str,
        images: &[PlacedImage<'_>],
        cancelled: &CancellationToken,
    ) -> Result<(Vec<u32>, String), Status> {
        const FIELD: &str = "messages";
        let Some(rule) = &self.images else {
            return Err(grpc_error::internal("images without a rule for them"));
        };
        let mut text = prompt;
        let mut tokens = self.encode(FIELD, text, cancelled)?;
        // A template that writes the token of a text's beginning meets a tokenizer that adds it.
        if let Some(rest) = bos.and_then(|bos| text.strip_prefix(bos))
            && let [first, second, ..] = tokens[..]
            && first == second
        {
            text = rest;
            tokens = self.encode(FIELD, text, cancelled)?;
        }
        let refused = |why| text_refused(FIELD, why);
        let again = self.vocabulary.decode(&tokens, false, cancelled);
        let again = again.map_err(refused)?;
        let sizes: Vec<ImageSize> = images.iter().map(|image| image.size).collect();
        let total = sizes
            .iter()
            .fold(tokens.len(), |sum, size| sum + size.tokens);
        if total > self.context_length() {
            return Err(grpc_error::context_exceeded(
                FIELD,
                format!(
                    "is {total} tokens long with its {} images, more than the model's context of {} tokens",
                    images.len(),
                    self.context_length()
                ),
            ));
        }
        let expanded = rule
            .expand(&again, &sizes)
            .ok_or_else(|| misplaced(FIELD, rule.prompt_text))?;
        let tokens = self.vocabulary.encode(&expanded, false, cancelled);
        Ok((tokens.map_err(refused)?, text.to_owned()))
    }

    /// Checks that only images have brought the tokens that stand for images into the prompt: the engine
    /// would look for images that are not there.
    pub(super) fn check_places(
        &self,
        field: &str,
        tokens: &[u32],
        images: &[PlacedImage<'_>],
    ) -> Result<(), Status> {
        let Some(rule) = &self.images else {
            return Ok(());
        };
        let count = |text: &str| match self.vocabulary.token(text) {
            Some(token) => tokens.iter().filter(|other| **other == token).count(),
            None => 0,
        };
        let expected = images.iter().map(|image| image.size.tokens).sum();
        let others = rule
            .others
            .iter()
            .map(|(text, each)| (*text, each * images.len()));
        for (text, expected) in std::iter::once((rule.token, expected)).chain(others) {
            if count(text) != expected {
                return Err(misplaced(field, text));
            }
        }
        Ok(())
    }

    /// Decodes the images for the engine; `None` without images.
    pub(super) fn image_prompt(
        &self,
        text: String,
        images: &[PlacedImage<'_>],
        cancelled: &CancellationToken,
    ) -> Result<Option<ImagePrompt>, Status> {
        let Some(rule) = self.images.as_ref().filter(|_| !images.is_empty()) else {
            return Ok(None);
        };
        let decoded: Result<Vec<_>, Status> = images
            .iter()
            .map(|image| {
                if cancelled.is_cancelled() {
                    return Err(grpc_error::unloaded());
                }
                let decoded = image
                    .picture
                    .decode()
                    .map_err(|fault| grpc_error::invalid_field(&image.field, fault.to_string()))?;
                Ok(rule.resize(decoded, image.size))
            })
            .collect();
        Ok(Some(ImagePrompt {
            text,
            images: decoded?,
            patches: images.iter().map(|image| image.size.patches).sum(),
        }))
    }
}

fn misplaced(field: &str, text: &str) -> Status {
    grpc_error::invalid_field(
        field,
        format!(
            "has {text} in a text, which stands for an image in this model; give images as parts"
        ),
    )
}
