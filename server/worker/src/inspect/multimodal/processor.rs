//! What the files of a model say about how images are prepared.

use std::{collections::HashMap, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{failure::Failure, inspect::files};

/// Longest file in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// What processor_config.json says.
#[derive(Default, Deserialize)]
pub(super) struct Processor {
    #[serde(alias = "image_seq_length")]
    pub(super) image_seq_len: Option<usize>,
    pub(super) chat_template: Option<String>,
    /// What would else be in preprocessor_config.json, as transformers 5 writes it.
    image_processor: Option<Map<String, Value>>,
}

/// The fields of preprocessor_config.json, or of what stands for it.
pub(super) struct PreprocessorFields {
    file_name: &'static str,
    pub(super) fields: Map<String, Value>,
}

/// What preprocessor_config.json says, in the types that the engine reads it as.
#[derive(Deserialize)]
pub(super) struct Preprocessor {
    /// The file that says it.
    #[serde(skip)]
    pub(super) file_name: &'static str,
    pub(super) do_resize: Option<bool>,
    pub(super) do_rescale: Option<bool>,
    pub(super) do_normalize: Option<bool>,
    pub(super) do_pan_and_scan: Option<bool>,
    pub(super) rescale_factor: Option<f64>,
    #[serde(alias = "resample")]
    pub(super) resampling: Option<usize>,
    pub(super) size: Option<HashMap<String, u32>>,
    pub(super) min_pixels: Option<u64>,
    pub(super) max_pixels: Option<u64>,
    pub(super) patch_size: Option<u32>,
    pub(super) merge_size: Option<u32>,
    pub(super) temporal_patch_size: Option<u32>,
    #[serde(alias = "norm_mean")]
    #[serde(rename = "image_mean")]
    _image_mean: Option<[f64; 3]>,
    #[serde(alias = "norm_std")]
    #[serde(rename = "image_std")]
    _image_std: Option<[f64; 3]>,
}

impl PreprocessorFields {
    /// Those of the model in this directory, if it has any. What is in processor_config.json counts first, as in the
    /// reference.
    pub(super) fn read(
        directory: &Path,
        processor: &mut Processor,
    ) -> Result<Option<Self>, Failure> {
        if let Some(fields) = processor.image_processor.take() {
            let file_name = "processor_config.json";
            return Ok(Some(Self { file_name, fields }));
        }
        let file_name = "preprocessor_config.json";
        let fields = files::read_json_if_there(&directory.join(file_name), MAX_FILE)?;
        Ok(fields.map(|fields| Self { file_name, fields }))
    }

    /// What they say.
    pub(super) fn preprocessor(&self) -> Result<Preprocessor, Failure> {
        let read = serde_json::from_value::<Preprocessor>(self.fields.clone().into());
        let preprocessor = read.map_err(|e| {
            Failure::unusable(format!(
                "{} is malformed: {e}. Get an intact copy of the file.",
                self.file_name
            ))
        })?;
        Ok(Preprocessor {
            file_name: self.file_name,
            ..preprocessor
        })
    }
}

impl Preprocessor {
    /// Why it is refused.
    pub(super) fn invalid(&self, what: impl std::fmt::Display) -> Failure {
        Failure::unusable(format!(
            "{0} {what}, which the engine cannot do. Get the {0} that belongs to the model.",
            self.file_name
        ))
    }
}
