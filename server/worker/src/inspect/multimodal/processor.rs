//! What the files of a model say about how images are prepared.

use std::collections::HashMap;

use serde::Deserialize;

use crate::failure::Failure;

/// Longest file in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// What processor_config.json says.
#[derive(Default, Deserialize)]
pub(super) struct Processor {
    #[serde(alias = "image_seq_length")]
    pub(super) image_seq_len: Option<usize>,
    pub(super) chat_template: Option<String>,
}

/// What preprocessor_config.json says, in the types that the engine reads it as.
#[derive(Deserialize)]
pub(super) struct Preprocessor {
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

/// Why a preprocessor_config.json is refused.
pub(super) fn invalid(what: impl std::fmt::Display) -> Failure {
    Failure::unusable(format!(
        "preprocessor_config.json {what}, which the engine cannot do. Get the preprocessor_config.json that \
         belongs to the model."
    ))
}
