//! Qwen3-VL: an image is brought to whole cells at about its own size and becomes a token for each.

use image::imageops::FilterType;
use serde::Deserialize;
use tokenizers::Tokenizer;

use super::processor::{MAX_FILE, Preprocessor};
use crate::{
    failure::Failure,
    inspect::{directory_files::DirectoryFiles, files},
    vision::{ImageRule, ImageSizing},
};

const BEGIN: &str = "<|vision_start|>";
const TOKEN: &str = "<|image_pad|>";
const END: &str = "<|vision_end|>";
const VIDEO: &str = "<|video_pad|>";

/// Pixels to which larger images are reduced, so that the memory for a request's images is bounded. The
/// model's own limit holds where it is smaller.
const MAX_PIXELS: u64 = 1 << 20;

/// What the engine takes where preprocessor_config.json does not say.
const DEFAULT_MIN_PIXELS: u64 = 256 * 256;
const DEFAULT_MAX_PIXELS: u64 = 1536 * 1536;

/// What the engine reads of config.json.
#[derive(Deserialize)]
struct Qwen3VlConfig {
    image_token_id: u32,
    video_token_id: u32,
    vision_start_token_id: u32,
    vision_end_token_id: u32,
    vision_config: Qwen3VlVisionConfig,
}

#[derive(Deserialize)]
struct Qwen3VlVisionConfig {
    #[serde(default = "default_patch_size")]
    patch_size: u32,
    #[serde(default = "default_pair")]
    spatial_merge_size: u32,
    #[serde(default = "default_pair")]
    temporal_patch_size: u32,
}

fn default_patch_size() -> u32 {
    16
}

fn default_pair() -> u32 {
    2
}

/// How the model in these files takes images.
pub(super) fn rule(
    files: &DirectoryFiles,
    preprocessor: &Preprocessor,
    tokenizer: &Tokenizer,
) -> Result<ImageRule, Failure> {
    let config: Qwen3VlConfig = files::read_json(&files.config, MAX_FILE)?;
    for (name, id, token) in [
        ("image_token_id", config.image_token_id, TOKEN),
        ("video_token_id", config.video_token_id, VIDEO),
        ("vision_start_token_id", config.vision_start_token_id, BEGIN),
        ("vision_end_token_id", config.vision_end_token_id, END),
    ] {
        if tokenizer.token_to_id(token) != Some(id) {
            return Err(Failure::unusable(format!(
                "The {name} {id} of config.json is not the token {token} of tokenizer.json. Get the files \
                 that belong together."
            )));
        }
    }
    Ok(ImageRule {
        prompt_text: "<|vision_start|><|image_pad|><|vision_end|>",
        placeholder: TOKEN,
        before: "",
        token: TOKEN,
        after: "",
        others: &[(BEGIN, 1), (END, 1), (VIDEO, 0)],
        sizing: sizing(&config.vision_config, preprocessor)?,
        filter: preprocessor.filter(FilterType::CatmullRom)?,
    })
}

fn sizing(
    vision: &Qwen3VlVisionConfig,
    preprocessor: &Preprocessor,
) -> Result<ImageSizing, Failure> {
    for (name, given, needed) in [
        ("patch_size", preprocessor.patch_size, vision.patch_size),
        (
            "merge_size",
            preprocessor.merge_size,
            vision.spatial_merge_size,
        ),
        (
            "temporal_patch_size",
            preprocessor.temporal_patch_size,
            vision.temporal_patch_size,
        ),
    ] {
        if given != Some(needed) || !(1..=64).contains(&needed) {
            return Err(
                preprocessor.invalid(format!("does not have the {name} {needed} of config.json"))
            );
        }
    }
    if preprocessor.do_resize == Some(false) {
        return Err(preprocessor.invalid("leaves images at any size"));
    }
    let edge = |name| {
        preprocessor
            .size
            .as_ref()
            .and_then(|size| size.get(name).copied())
    };
    let pixels =
        |own: Option<u64>, name, default| own.or(edge(name).map(u64::from)).unwrap_or(default);
    let min_pixels = pixels(preprocessor.min_pixels, "shortest_edge", DEFAULT_MIN_PIXELS);
    let max_pixels = pixels(preprocessor.max_pixels, "longest_edge", DEFAULT_MAX_PIXELS);
    let cell = u64::from(vision.patch_size * vision.spatial_merge_size).pow(2);
    let max_pixels = max_pixels.min(MAX_PIXELS);
    // Sizes are rounded to whole cells, which has to be possible between the two.
    if max_pixels < cell || min_pixels.saturating_mul(4) > max_pixels {
        return Err(
            preprocessor.invalid(format!("has images of {min_pixels} to {max_pixels} pixels"))
        );
    }
    Ok(ImageSizing::Cells {
        patch: vision.patch_size,
        merge: vision.spatial_merge_size,
        min_pixels,
        max_pixels,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VISION: Qwen3VlVisionConfig = Qwen3VlVisionConfig {
        patch_size: 16,
        spatial_merge_size: 2,
        temporal_patch_size: 2,
    };

    fn made(preprocessor: serde_json::Value) -> Option<ImageSizing> {
        let preprocessor = serde_json::from_value(preprocessor).expect("a preprocessor");
        sizing(&VISION, &preprocessor).ok()
    }

    #[bounded::test]
    fn the_limits_are_those_of_the_file_up_to_our_own() {
        let sizes = json!({"shortest_edge": 65_536, "longest_edge": 16_777_216});
        let own = json!({
            "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "size": sizes,
        });
        let expected = ImageSizing::Cells {
            patch: 16,
            merge: 2,
            min_pixels: 65_536,
            max_pixels: MAX_PIXELS,
        };
        assert_eq!(made(own.clone()), Some(expected));
        for (name, value) in [
            ("patch_size", json!(14)),
            ("merge_size", json!(null)),
            ("do_resize", json!(false)),
            ("max_pixels", json!(100)),
            ("min_pixels", json!(1 << 20)),
        ] {
            let mut other = own.clone();
            other[name] = value;
            assert_eq!(made(other), None, "{name}");
        }
    }
}
