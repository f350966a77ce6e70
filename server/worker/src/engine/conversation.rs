//! A request's prompt or messages as one text, with a mark where each image is to be.
//!
//! Parts of a message are put together as they are, without anything between them; that is what the chat
//! templates of models that take images do. What is refused here is refused by the place of the part.

use hangar_client::v1::{ChatMessage, GenerateRequest, content_part::Part};
use tonic::Status;

use crate::{
    engine::Engine,
    media::Picture,
    status,
    vision::{ImageRule, ImageSize},
};

/// An image of a request.
#[derive(Debug)]
pub(super) struct PlacedImage<'a> {
    /// Where it is in the request.
    pub(super) field: String,
    pub(super) picture: Picture<'a>,
    pub(super) size: ImageSize,
}

/// Messages without parts, and the images that were in them.
pub(super) struct Conversation<'a> {
    pub(super) messages: Vec<ChatMessage>,
    pub(super) images: Vec<PlacedImage<'a>>,
}

impl Engine {
    /// The request's messages with their parts put together.
    pub(super) fn conversation<'a>(
        &self,
        request: &'a GenerateRequest,
    ) -> Result<Conversation<'a>, Status> {
        let mut images = Vec::new();
        let mut messages = Vec::with_capacity(request.messages.len());
        for (m, message) in request.messages.iter().enumerate() {
            let mut content = message.content.clone();
            for (p, part) in message.parts.iter().enumerate() {
                let at = |what: &str| format!("messages[{m}].parts[{p}].{what}");
                match &part.part {
                    Some(Part::Text(text)) => content.push_str(text),
                    Some(Part::Image(bytes)) => {
                        let field = at("image");
                        let rule = self.images.as_ref().ok_or_else(|| no_image(&field))?;
                        content.push_str(rule.mark);
                        images.push(see(rule, field, bytes)?);
                    }
                    Some(Part::Audio(_)) => return Err(self.no_audio(&at("audio"))),
                    None => {
                        return Err(status::invalid_field(
                            &format!("messages[{m}].parts[{p}]"),
                            "give text, image or audio",
                        ));
                    }
                }
            }
            messages.push(ChatMessage {
                role: message.role.clone(),
                content,
                tool_calls: message.tool_calls.clone(),
                tool_call_id: message.tool_call_id.clone(),
                parts: Vec::new(),
            });
        }
        Ok(Conversation { messages, images })
    }

    fn no_audio(&self, field: &str) -> Status {
        let taken = match self.images {
            Some(_) => "text and images",
            None => "text",
        };
        status::unsupported_by_model(format!(
            "{field}: this model takes {taken}, but no audio; leave the audio out"
        ))
    }
}

fn no_image(field: &str) -> Status {
    status::unsupported_by_model(format!(
        "{field}: this model takes text only; leave the image out, or use a model whose input_modalities \
         have \"image\""
    ))
}

fn see<'a>(rule: &ImageRule, field: String, bytes: &'a [u8]) -> Result<PlacedImage<'a>, Status> {
    let picture =
        Picture::open(bytes).map_err(|fault| status::invalid_field(&field, fault.to_string()))?;
    let size = rule
        .sizing
        .size(picture.width, picture.height)
        .map_err(|why| status::invalid_field(&field, why))?;
    Ok(PlacedImage {
        field,
        picture,
        size,
    })
}
