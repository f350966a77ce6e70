//! How a model takes images: what stands for one in a prompt, as what the model looks at it, and how many
//! tokens it becomes.
//!
//! It is what the engine does by itself later, told beforehand: so a prompt can be counted before the engine
//! sees it, and an image is brought to its final size (which the engine then leaves as it is) before it is
//! kept for the request's turn.

use image::DynamicImage;
use image::imageops::FilterType;

/// How a model takes images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageRule {
    /// What stands for an image in a prompt, as chat templates write it.
    pub(crate) mark: &'static str,
    /// What the engine puts in its place before an image's tokens.
    pub(crate) before: &'static str,
    /// The token that is there once for each token of an image.
    pub(crate) token: &'static str,
    /// What the engine puts after them.
    pub(crate) after: &'static str,
    /// Special tokens that only images may bring into a prompt.
    pub(crate) reserved: &'static [&'static str],
    /// As what the model looks at every image.
    pub(crate) look: Look,
    /// How images are brought to that size.
    pub(crate) filter: FilterType,
}

/// An image's size in pixels and what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Tokens.
    pub(crate) tokens: usize,
    /// Patches that the vision encoder computes.
    pub(crate) patches: usize,
}

impl ImageRule {
    /// The image at the size at which the model looks at it.
    pub(crate) fn resize(&self, image: DynamicImage) -> DynamicImage {
        let look = self.look;
        if (image.width(), image.height()) == (look.width, look.height) {
            return image;
        }
        image.resize_exact(look.width, look.height, self.filter)
    }

    /// The prompt as the engine makes it with the images' tokens in their places. `None` if it has more or
    /// fewer places than there are images.
    pub(crate) fn expand(&self, prompt: &str, images: usize) -> Option<String> {
        if prompt.matches(self.mark).count() != images {
            return None;
        }
        let tokens = self.token.repeat(self.look.tokens);
        let inserted = [self.before, tokens.as_str(), self.after].concat();
        Some(prompt.replace(self.mark, &inserted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ImageRule = ImageRule {
        mark: "<image>",
        before: "[",
        token: "x",
        after: "]",
        reserved: &["<image>"],
        look: Look {
            width: 4,
            height: 4,
            tokens: 3,
            patches: 9,
        },
        filter: FilterType::Triangle,
    };

    #[test]
    fn each_mark_becomes_the_tokens_of_an_image() {
        let expanded = RULE.expand("a<image>b<image>", 2);
        assert_eq!(expanded.as_deref(), Some("a[xxx]b[xxx]"));
        assert_eq!(RULE.expand("a<image>", 0), None);
        assert_eq!(RULE.expand("a", 1), None);
        assert_eq!(RULE.expand("a", 0).as_deref(), Some("a"));
    }
}
