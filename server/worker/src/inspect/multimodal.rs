//! The files that a multimodal model has beside those of a text model: what the engine would panic on when
//! it loads them, or when it meets the first image, is found here.

mod gemma3;
mod processor;
mod qwen3_vl;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use hangar_client::v1::ModelKind;
use hangar_worker_protocol::v1::WorkerConfig;
use image::imageops::FilterType;
use mistralrs::core::MultimodalLoaderType;
use serde::Deserialize;
use tokenizers::Tokenizer;

use self::processor::{MAX_FILE, Preprocessor, PreprocessorFields, Processor};
use super::{
    chat_templates::{self, Templates},
    directory_files::DirectoryFiles,
    files, kind,
    model_config::ModelConfig,
    text_settings::TextSettings,
};
use crate::{demo::place, failure::Failure, media::MAX_IMAGES, vision::ImageRule};

/// A chat template that gives a message as it is. The engine puts every conversation with images into its
/// chat template by itself; with this one, it gets prompts that are made already.
const VERBATIM: (&str, &str) = ("verbatim.jinja", "{{ messages[0]['content'] }}");

/// Images of which the engine keeps what its encoder made of them.
const KEPT_IMAGES: u64 = 32;

/// Bytes of a number, at most.
const BYTES_PER_ELEMENT: u64 = 4;

/// What there is to know about a multimodal model beside what every model has.
#[derive(Debug, Clone)]
pub(crate) struct Multimodal {
    /// The engine's loader for the architecture.
    pub(crate) loader: MultimodalLoaderType,
    /// How it takes images; none where no file says how they are prepared, as text halves are published.
    pub(crate) images: Option<ImageRule>,
    /// preprocessor_config.json for the engine.
    pub(crate) preprocessor: Vec<u8>,
    /// processor_config.json, if the engine is to read it.
    pub(crate) processor_config: Option<PathBuf>,
    /// The model's own chat templates.
    pub(crate) templates: Templates,
    /// The chat template for the engine.
    pub(crate) verbatim: PathBuf,
    /// Bytes that images need in memory beside the weights.
    pub(crate) need: u64,
}

/// Sizes in config.json of which the need of images for memory follows.
#[derive(Debug, Clone, Default, Deserialize)]
struct VisionSizes {
    #[serde(default)]
    vision_config: Encoder,
    #[serde(default)]
    text_config: Decoder,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Encoder {
    #[serde(default)]
    hidden_size: u64,
    #[serde(default)]
    intermediate_size: u64,
    /// Layers whose results also go to the text half.
    #[serde(default)]
    deepstack_visual_indexes: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Decoder {
    #[serde(default)]
    hidden_size: u64,
}

/// Inspects what the model in these files has beside what every model has.
pub(super) fn inspect(
    config: &WorkerConfig,
    model: &ModelConfig,
    files: &DirectoryFiles,
    text_settings: &TextSettings,
    tokenizer: &Tokenizer,
) -> Result<Option<Multimodal>, Failure> {
    let Some(loader) = kind::multimodal_loader(&model.architecture) else {
        return Ok(None);
    };
    if !config.spec().adapters.is_empty() {
        return Err(Failure::unusable(
            "The engine merges adapters into text models only. Leave the adapters out.",
        ));
    }
    let processor_config = optional(files.directory.join("processor_config.json"))?;
    let mut processor = match &processor_config {
        Some(path) => files::read_json(path, MAX_FILE)?,
        None => Processor::default(),
    };
    let fields = PreprocessorFields::read(&files.directory, &mut processor)?;
    if fields.is_none() && config.spec().kind() == ModelKind::Multimodal {
        return Err(Failure::unusable(
            "The spec's kind is MULTIMODAL, but the directory has no preprocessor_config.json, and no processor_config.json with \
             an image_processor: one of them says how images are prepared. Add the file that belongs to the model, or leave the \
             kind out to have the model take text only.",
        ));
    }
    let images = fields
        .as_ref()
        .map(|fields| image_rule(&loader, fields, &processor, files, tokenizer))
        .transpose()?;
    let need = match &images {
        Some(images) => need(
            &files::read_json(&files.config, MAX_FILE)?,
            images.sizing.most(),
        ),
        None => 0,
    };
    let fields = fields.map(|it| it.fields).unwrap_or_default();
    Ok(Some(Multimodal {
        loader,
        images,
        preprocessor: serde_json::to_vec(&fields).unwrap_or_default(),
        // The engine would take the chat template in it before any other.
        processor_config: processor_config.filter(|_| processor.chat_template.is_none()),
        templates: templates(files, processor.chat_template, text_settings)?,
        verbatim: verbatim(Path::new(&config.cache_dir))?,
        need,
    }))
}

/// How the model takes images, by the files that say it.
fn image_rule(
    loader: &MultimodalLoaderType,
    fields: &PreprocessorFields,
    processor: &Processor,
    files: &DirectoryFiles,
    tokenizer: &Tokenizer,
) -> Result<ImageRule, Failure> {
    let preprocessor = fields.preprocessor()?;
    let rule = match loader {
        MultimodalLoaderType::Qwen3VL => qwen3_vl::rule(files, &preprocessor, tokenizer)?,
        _ => gemma3::rule(files, &preprocessor, processor, tokenizer)?,
    };
    let mut others = rule.others.iter();
    if let Some((token, _)) = others.find(|(token, _)| tokenizer.token_to_id(token).is_none()) {
        return Err(Failure::unusable(format!(
            "tokenizer.json has no token {token}, which stands for images. Get the tokenizer that belongs to the model."
        )));
    }
    Ok(rule)
}

impl Preprocessor {
    /// The filter by its number in Pillow, as the engine has them.
    fn filter(&self, default: FilterType) -> Result<FilterType, Failure> {
        match self.resampling {
            None => Ok(default),
            Some(0 | 4) => Ok(FilterType::Nearest),
            Some(1) => Ok(FilterType::Lanczos3),
            Some(2) => Ok(FilterType::Triangle),
            Some(3) => Ok(FilterType::CatmullRom),
            Some(other) => Err(self.invalid(format!("asks for the filter {other}"))),
        }
    }
}

fn optional(path: PathBuf) -> Result<Option<PathBuf>, Failure> {
    match path.try_exists() {
        Ok(exists) => Ok(exists.then_some(path)),
        Err(e) => Err(files::cannot_read(&path, &e)),
    }
}

/// Bytes for images:
///
/// - to compute as many as a request may have: about ten times the encoder's width and twice that of its inner
///   layers, for each patch,
/// - what the engine keeps of the last ones: the width of the text half for each token, once more for each
///   layer whose results go there too.
///
/// `most` is the most that an image becomes.
fn need(sizes: &VisionSizes, most: (u64, u64)) -> u64 {
    let (patches, tokens) = most;
    let encoder = &sizes.vision_config;
    let width = encoder
        .hidden_size
        .saturating_mul(10)
        .saturating_add(encoder.intermediate_size.saturating_mul(2));
    let computed = width
        .saturating_mul(patches)
        .saturating_mul(MAX_IMAGES as u64);
    let layers = 1 + encoder.deepstack_visual_indexes.len() as u64;
    let kept = [tokens, sizes.text_config.hidden_size, layers, KEPT_IMAGES]
        .into_iter()
        .fold(1, u64::saturating_mul);
    computed
        .saturating_add(kept)
        .saturating_mul(BYTES_PER_ELEMENT)
}

/// The model's own chat templates, from the first of the files that has any.
fn templates(
    files: &DirectoryFiles,
    processor: Option<String>,
    text_settings: &TextSettings,
) -> Result<Templates, Failure> {
    if files.template.is_none() {
        if let Some(path) = &files.template_json {
            return chat_templates::template_in(path).map(Templates::one);
        }
        if let Some(template) = processor {
            return Ok(Templates::one(template));
        }
    }
    Ok(text_settings.templates.clone())
}

fn verbatim(cache: &Path) -> Result<PathBuf, Failure> {
    let (name, contents) = VERBATIM;
    let path = cache.join(name);
    place(&path, contents.as_bytes()).map_err(|e| {
        let message = format!("{} cannot be written: {e}.", path.display());
        match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Failure::storage(format!("{message} Free some space."))
            }
            _ => Failure::unusable(format!("{message} Check the server's data directory.")),
        }
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn the_need_grows_with_what_images_become() {
        let sizes = VisionSizes {
            vision_config: Encoder {
                hidden_size: 100,
                intermediate_size: 200,
                deepstack_visual_indexes: vec![1, 2],
            },
            text_config: Decoder { hidden_size: 50 },
        };
        let without = |most| need(&sizes, most);
        assert_eq!(without((1, 0)), (1000 + 400) * 4 * MAX_IMAGES as u64);
        assert_eq!(without((0, 1)), 50 * 3 * 4 * 32);
        assert_eq!(need(&sizes, (u64::MAX, 0)), u64::MAX);
    }
}
