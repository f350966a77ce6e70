//! How a model takes images: what stands for one in a prompt, at what size the model looks at it, and how many
//! tokens it becomes.
//!
//! It is what the engine does by itself later, computed beforehand: so a prompt can be counted before the engine
//! sees it, and an image is brought to its final size (which the engine then leaves as it is) before it is
//! kept for the request's turn.

use std::ops::RangeInclusive;

use image::{DynamicImage, imageops::FilterType};

/// How a model takes images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageRule {
    /// What stands for an image in a prompt, as chat templates write it.
    pub(crate) prompt_text: &'static str,
    /// The part of that in whose place the engine puts an image's tokens.
    pub(crate) placeholder: &'static str,
    /// What the engine puts before them.
    pub(crate) before: &'static str,
    /// The token that is there once for each token of an image.
    pub(crate) token: &'static str,
    /// What the engine puts after them.
    pub(crate) after: &'static str,
    /// Other tokens that only images may bring into a prompt, and how many each image brings.
    pub(crate) others: &'static [(&'static str, usize)],
    /// At what size the model looks at images.
    pub(crate) sizing: ImageSizing,
    /// How images are brought to that size.
    pub(crate) filter: FilterType,
}

/// At what size a model looks at images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageSizing {
    /// At all of them as the same.
    Same(ImageSize),
    /// At each at about its own size, in whole cells of `patch × merge` pixels, of which each becomes a token.
    Cells {
        /// Side of a patch in pixels.
        patch: u32,
        /// Patches along the side of a cell.
        merge: u32,
        /// Smaller images are enlarged to so many pixels.
        min_pixels: u64,
        /// Larger images are reduced to so many pixels.
        max_pixels: u64,
    },
}

/// An image's size in pixels and what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageSize {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Tokens.
    pub(crate) tokens: usize,
    /// Patches that the vision encoder computes.
    pub(crate) patches: usize,
}

/// Most that a side may be longer than the other one.
const MAX_RATIO: f64 = 200.0;

impl ImageRule {
    /// The image at the size at which the model looks at it.
    pub(crate) fn resize(&self, image: DynamicImage, size: ImageSize) -> DynamicImage {
        if (image.width(), image.height()) == (size.width, size.height) {
            return image;
        }
        image.resize_exact(size.width, size.height, self.filter)
    }

    /// The prompt as the engine makes it with the images' tokens in their places. `None` if it has more or
    /// fewer places than there are images.
    pub(crate) fn expand(&self, prompt: &str, sizes: &[ImageSize]) -> Option<String> {
        let mut pieces = prompt.split(self.placeholder);
        let mut expanded = pieces.next()?.to_owned();
        let mut sizes = sizes.iter();
        for piece in pieces {
            expanded.push_str(self.before);
            expanded.push_str(&self.token.repeat(sizes.next()?.tokens));
            expanded.push_str(self.after);
            expanded.push_str(piece);
        }
        sizes.next().is_none().then_some(expanded)
    }
}

impl ImageSizing {
    /// At what size the model looks at an image of this one. The error says what is wrong with the size.
    pub(crate) fn size(&self, width: u32, height: u32) -> Result<ImageSize, String> {
        match *self {
            Self::Same(size) => Ok(size),
            Self::Cells {
                patch,
                merge,
                min_pixels,
                max_pixels,
            } => {
                let cell = patch * merge;
                let (width, height) = whole_cells(width, height, cell, min_pixels..=max_pixels)?;
                let tokens = (width / cell) as usize * (height / cell) as usize;
                Ok(ImageSize {
                    width,
                    height,
                    tokens,
                    patches: tokens * (merge * merge) as usize,
                })
            }
        }
    }

    /// Most patches that the vision encoder computes for an image, and most tokens that it becomes.
    pub(crate) fn most(&self) -> (u64, u64) {
        match *self {
            Self::Same(size) => (size.patches as u64, size.tokens as u64),
            Self::Cells {
                patch,
                merge,
                max_pixels,
                ..
            } => {
                let patches = max_pixels / u64::from(patch * patch).max(1);
                (patches, patches / u64::from(merge * merge).max(1))
            }
        }
    }
}

/// Width and height in whole cells with an area within these pixels, as the `smart_resize` of the Qwen models
/// has them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole_cells(
    width: u32,
    height: u32,
    cell: u32,
    pixels: RangeInclusive<u64>,
) -> Result<(u32, u32), String> {
    if width < cell || height < cell {
        return Err(format!(
            "is {width} x {height} pixels; this model needs at least {cell} on each side"
        ));
    }
    let (w, h, side) = (f64::from(width), f64::from(height), f64::from(cell));
    if w.max(h) / w.min(h) > MAX_RATIO {
        return Err(format!(
            "is {width} x {height} pixels; for this model no side may be more than {MAX_RATIO} times as long \
             as the other"
        ));
    }
    let area = |(w, h): (u32, u32)| u64::from(w) * u64::from(h);
    let nearest = |length: f64| (length / side).round() as u32 * cell;
    let plain = (nearest(w), nearest(h));
    let fitted = if area(plain) > *pixels.end() {
        let by = (w * h / *pixels.end() as f64).sqrt();
        let fit = |length: f64| (length / by / side).floor() as u32 * cell;
        (fit(w), fit(h))
    } else if area(plain) < *pixels.start() {
        let by = (*pixels.start() as f64 / (w * h)).sqrt();
        let fit = |length: f64| (length * by / side).ceil() as u32 * cell;
        (fit(w), fit(h))
    } else {
        plain
    };
    // Narrow images lose a side when they are reduced, or grow beyond the most when they are enlarged.
    if !pixels.contains(&area(fitted)) {
        return Err(format!(
            "is {width} x {height} pixels, which is too narrow for this model"
        ));
    }
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ImageRule = ImageRule {
        prompt_text: "<image>",
        placeholder: "<image>",
        before: "[",
        token: "x",
        after: "]",
        others: &[],
        sizing: ImageSizing::Same(ImageSize {
            width: 4,
            height: 4,
            tokens: 3,
            patches: 9,
        }),
        filter: FilterType::Triangle,
    };

    #[bounded::test]
    fn each_place_gets_the_tokens_of_its_image() {
        let size = |tokens| ImageSize {
            width: 1,
            height: 1,
            tokens,
            patches: 0,
        };
        let expanded = RULE.expand("a<image>b<image>", &[size(2), size(1)]);
        assert_eq!(expanded.as_deref(), Some("a[xx]b[x]"));
        assert_eq!(RULE.expand("a<image>", &[]), None);
        assert_eq!(RULE.expand("a", &[size(1)]), None);
        assert_eq!(RULE.expand("a", &[]).as_deref(), Some("a"));
    }

    #[bounded::test]
    fn sizes_are_whole_cells_within_the_limits_and_stay_so() {
        let (min_pixels, max_pixels) = (56 * 56, 28 * 28 * 100);
        let sizing = ImageSizing::Cells {
            patch: 14,
            merge: 2,
            min_pixels,
            max_pixels,
        };
        for (width, height) in [(28, 28), (100, 30), (5000, 3000), (57, 4000), (31, 29)] {
            let size = sizing.size(width, height).expect("a size");
            let area = size.width * size.height;
            assert_eq!((size.width % 28, size.height % 28), (0, 0));
            assert!((min_pixels..=max_pixels).contains(&area.into()), "{size:?}");
            assert_eq!(size.tokens * 28 * 28, area as usize);
            assert_eq!(sizing.size(size.width, size.height), Ok(size));
        }
        for (width, height) in [(27, 100), (28, 28 * 201), (60, 12_000)] {
            assert!(sizing.size(width, height).is_err(), "{width} x {height}");
        }
    }
}
