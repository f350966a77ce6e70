//! What conversations with a loaded model may have, and why not.

use hangar_client::v1::{ConversationSupport, Support};

use crate::engine::Engine;

impl Engine {
    /// What conversations with the model may have.
    pub(super) fn support(&self) -> ConversationSupport {
        let none = self.why_no_messages();
        let unless = |why: Option<String>| support(none.clone().or(why));
        let images = self
            .images
            .is_none()
            .then(|| "this model takes text only".to_owned());
        let thinking = self.reasoning.is_none().then(|| {
            "neither its chat template nor its tokens have marks around thinking that this server knows".to_owned()
        });
        ConversationSupport {
            messages: Some(support(none.clone())),
            tools: Some(unless(self.why_no_tools())),
            images: Some(unless(images)),
            thinking: Some(unless(thinking)),
        }
    }

    fn why_no_messages(&self) -> Option<String> {
        if self.embedder.is_some() {
            return Some("this model gives vectors and no text".into());
        }
        self.chat.as_ref().err().cloned()
    }
}

fn support(why_not: Option<String>) -> Support {
    Support {
        supported: why_not.is_none(),
        why_not: why_not.unwrap_or_default(),
    }
}
