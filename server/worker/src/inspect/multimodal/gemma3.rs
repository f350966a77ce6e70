//! Gemma 3: every image is made a square of the size of its SigLIP encoder and becomes the same number of
//! tokens.

use image::imageops::FilterType;
use serde::Deserialize;
use tokenizers::Tokenizer;

use super::processor::{MAX_FILE, Preprocessor, Processor};
use crate::{
    failure::Failure,
    inspect::{directory_files::DirectoryFiles, files},
    vision::{ImageRule, ImageSize, ImageSizing},
};

const BEGIN: &str = "<start_of_image>";
const TOKEN: &str = "<image_soft_token>";
const END: &str = "<end_of_image>";

/// Tokens of an image where processor_config.json does not say.
const DEFAULT_TOKENS: usize = 256;

/// What the engine reads of config.json, where a model that has no vision lacks the second half.
#[derive(Deserialize)]
struct Gemma3Config {
    image_token_index: u32,
    mm_tokens_per_image: usize,
    vision_config: Gemma3VisionConfig,
}

#[derive(Deserialize)]
struct Gemma3VisionConfig {
    #[serde(default = "default_image_size")]
    image_size: u32,
    #[serde(default = "default_patch_size")]
    patch_size: u32,
}

fn default_image_size() -> u32 {
    224
}

fn default_patch_size() -> u32 {
    16
}

/// How the model in these files takes images.
pub(super) fn rule(
    files: &DirectoryFiles,
    preprocessor: &Preprocessor,
    processor: &Processor,
    tokenizer: &Tokenizer,
) -> Result<ImageRule, Failure> {
    let config: Gemma3Config = files::read_json(&files.config, MAX_FILE)?;
    let side = config.vision_config.image_size;
    let patches = patches(&config)?;
    let tokens = config.mm_tokens_per_image;
    // A chat template in the file makes the engine's loader take it for its own, so it is left out then.
    let stated = match (&processor.chat_template, processor.image_seq_len) {
        (None, Some(stated)) => stated,
        (None, None) | (Some(_), _) => DEFAULT_TOKENS,
    };
    if stated != tokens {
        return Err(Failure::unusable(format!(
            "An image is {tokens} tokens by mm_tokens_per_image of config.json, but {stated} by \
             image_seq_length of processor_config.json (256 where it is not there, or where that file holds \
             a chat template). Get the files that belong together."
        )));
    }
    if tokenizer.token_to_id(TOKEN) != Some(config.image_token_index) {
        return Err(Failure::unusable(format!(
            "The image_token_index {} of config.json is not the token {TOKEN} of tokenizer.json. Get the \
             files that belong together.",
            config.image_token_index
        )));
    }
    check(preprocessor, side)?;
    Ok(ImageRule {
        prompt_text: BEGIN,
        placeholder: BEGIN,
        before: "\n\n<start_of_image>",
        token: TOKEN,
        after: "<end_of_image>\n\n",
        others: &[(BEGIN, 1), (END, 1)],
        sizing: ImageSizing::Same(ImageSize {
            width: side,
            height: side,
            tokens,
            patches,
        }),
        filter: preprocessor.filter(FilterType::Triangle)?,
    })
}

/// Patches of an image, which have to be pooled evenly to its tokens.
fn patches(config: &Gemma3Config) -> Result<usize, Failure> {
    let Gemma3VisionConfig {
        image_size,
        patch_size,
    } = config.vision_config;
    let along = image_size.checked_div(patch_size).unwrap_or(0) as usize;
    let tokens = config.mm_tokens_per_image.isqrt();
    let even = tokens > 0 && tokens * tokens == config.mm_tokens_per_image;
    if !even || along == 0 || !along.is_multiple_of(tokens) || image_size > 8192 {
        return Err(Failure::unusable(format!(
            "An image of {image_size} pixels in patches of {patch_size} cannot become {} tokens evenly. Get \
             the config.json that belongs to the model.",
            config.mm_tokens_per_image
        )));
    }
    Ok(along * along)
}

fn check(preprocessor: &Preprocessor, side: u32) -> Result<(), Failure> {
    let given = [
        ("do_resize", preprocessor.do_resize.is_some()),
        ("do_rescale", preprocessor.do_rescale.is_some()),
        ("do_normalize", preprocessor.do_normalize.is_some()),
        ("rescale_factor", preprocessor.rescale_factor.is_some()),
    ];
    if let Some((name, _)) = given.iter().find(|(_, given)| !given) {
        return Err(preprocessor.invalid(format!("has no {name}")));
    }
    if preprocessor.do_pan_and_scan == Some(true) {
        return Err(Failure::unusable(format!(
            "{} asks for pan and scan, which this version of Hangar does not do. Set do_pan_and_scan to false.",
            preprocessor.file_name
        )));
    }
    let size = preprocessor.size.as_ref();
    let is_side = |name| size.and_then(|size| size.get(name)) == Some(&side);
    if !is_side("height") || !is_side("width") {
        return Err(preprocessor.invalid(format!(
            "does not bring images to the {side} x {side} pixels of config.json"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(image_size: u32, patch_size: u32, tokens: usize) -> Gemma3Config {
        Gemma3Config {
            image_token_index: 0,
            mm_tokens_per_image: tokens,
            vision_config: Gemma3VisionConfig {
                image_size,
                patch_size,
            },
        }
    }

    #[bounded::test]
    fn patches_are_pooled_evenly() {
        assert_eq!(patches(&config(896, 14, 256)).ok(), Some(64 * 64));
        assert_eq!(patches(&config(32, 8, 4)).ok(), Some(16));
        for (size, patch, tokens) in [
            (896, 14, 255),
            (32, 8, 9),
            (32, 0, 4),
            (32, 64, 4),
            (32, 8, 0),
        ] {
            assert!(patches(&config(size, patch, tokens)).is_err());
        }
    }
}
