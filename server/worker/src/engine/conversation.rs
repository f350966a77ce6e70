//! The messages of a request, with their content as chat templates may get it.
//!
//! What is refused here is refused by the place of the part.

use hangar_client::v1::{ChatMessage, content_part::Part};
use serde_json::Map;
use tonic::Status;

use crate::{
    engine::{
        Engine,
        chat::{Content, Message, MessagePart},
        json::json_object,
    },
    grpc_error,
    media::EncodedImage,
    vision::{ImageRule, ImageSize},
};

/// Deepest nesting of a message's other fields.
const MAX_DEPTH: usize = 16;

/// An image of a request.
#[derive(Debug)]
pub(super) struct PlacedImage<'a> {
    /// Where it is in the request.
    pub(super) field: String,
    pub(super) picture: EncodedImage<'a>,
    pub(super) size: ImageSize,
}

/// Messages, and the images that are in them.
#[derive(Default)]
pub(super) struct Conversation<'a> {
    pub(super) messages: Vec<Message<'a>>,
    pub(super) images: Vec<PlacedImage<'a>>,
}

impl Engine {
    /// These messages with their content.
    pub(super) fn conversation<'a>(
        &self,
        messages: &'a [ChatMessage],
    ) -> Result<Conversation<'a>, Status> {
        let mut conversation = Conversation::default();
        for (m, message) in messages.iter().enumerate() {
            let content = if !message.parts.is_empty() {
                Content::Parts(self.pieces(m, message, &mut conversation.images)?)
            } else if message.content.is_empty() && !message.tool_calls.is_empty() {
                Content::None
            } else {
                Content::Text(message.content.clone())
            };
            let fields = match &message.fields {
                None => Map::new(),
                Some(fields) => json_object(fields, MAX_DEPTH).ok_or_else(|| {
                    let field = format!("messages[{m}].fields");
                    grpc_error::invalid_field(&field, "is nested too deeply")
                })?,
            };
            conversation.messages.push(Message {
                message,
                content,
                fields,
            });
        }
        Ok(conversation)
    }

    /// The parts of the message at place `m`; images come to `images` too.
    fn pieces<'a>(
        &self,
        m: usize,
        message: &'a ChatMessage,
        images: &mut Vec<PlacedImage<'a>>,
    ) -> Result<Vec<MessagePart>, Status> {
        let mut pieces = Vec::with_capacity(message.parts.len());
        for (p, part) in message.parts.iter().enumerate() {
            let at = |what: &str| format!("messages[{m}].parts[{p}].{what}");
            pieces.push(match &part.part {
                Some(Part::Text(text)) => MessagePart::Text(text.clone()),
                Some(Part::Image(bytes)) => {
                    let field = at("image");
                    let rule = self.images.as_ref().ok_or_else(|| no_image(&field))?;
                    images.push(see(rule, field, bytes)?);
                    MessagePart::Image(rule.prompt_text)
                }
                Some(Part::Audio(_)) => return Err(self.no_audio(&at("audio"))),
                None => {
                    let field = format!("messages[{m}].parts[{p}]");
                    return Err(grpc_error::invalid_field(
                        &field,
                        "give text, image or audio",
                    ));
                }
            });
        }
        Ok(pieces)
    }

    fn no_audio(&self, field: &str) -> Status {
        let taken = match self.images {
            Some(_) => "text and images",
            None => "text",
        };
        grpc_error::unsupported_by_model(format!(
            "{field}: this model takes {taken}, but no audio; leave the audio out"
        ))
    }
}

fn no_image(field: &str) -> Status {
    grpc_error::unsupported_by_model(format!(
        "{field}: this model takes text only; leave the image out, or use a model whose input_modalities \
         have \"image\""
    ))
}

fn see<'a>(rule: &ImageRule, field: String, bytes: &'a [u8]) -> Result<PlacedImage<'a>, Status> {
    let picture = EncodedImage::open(bytes)
        .map_err(|fault| grpc_error::invalid_field(&field, fault.to_string()))?;
    let size = rule
        .sizing
        .size(picture.width, picture.height)
        .map_err(|why| grpc_error::invalid_field(&field, why))?;
    Ok(PlacedImage {
        field,
        picture,
        size,
    })
}
