//! Kinds, formats and data types as messages, both ways.

use hangar_client::v1;

use crate::model::{DataType, Format, ModelKind};

/// The kind that a message gives, if it gives one.
pub fn read_kind(kind: v1::ModelKind) -> Option<ModelKind> {
    match kind {
        v1::ModelKind::Unspecified => None,
        v1::ModelKind::Text => Some(ModelKind::Text),
        v1::ModelKind::Multimodal => Some(ModelKind::Multimodal),
        v1::ModelKind::Embedding => Some(ModelKind::Embedding),
        v1::ModelKind::Image => Some(ModelKind::Image),
        v1::ModelKind::Speech => Some(ModelKind::Speech),
    }
}

/// The format that a message gives, if it gives one.
pub fn read_format(format: v1::ModelFormat) -> Option<Format> {
    match format {
        v1::ModelFormat::Unspecified => None,
        v1::ModelFormat::Safetensors => Some(Format::Safetensors),
        v1::ModelFormat::Gguf => Some(Format::Gguf),
        v1::ModelFormat::Uqff => Some(Format::Uqff),
    }
}

/// The data type that a message gives, if it gives one.
pub fn read_dtype(dtype: v1::DataType) -> Option<DataType> {
    match dtype {
        v1::DataType::Unspecified => None,
        v1::DataType::F32 => Some(DataType::F32),
        v1::DataType::F16 => Some(DataType::F16),
        v1::DataType::Bf16 => Some(DataType::Bf16),
    }
}

/// A kind as a message.
pub fn kind_message(kind: Option<ModelKind>) -> v1::ModelKind {
    match kind {
        None => v1::ModelKind::Unspecified,
        Some(ModelKind::Text) => v1::ModelKind::Text,
        Some(ModelKind::Multimodal) => v1::ModelKind::Multimodal,
        Some(ModelKind::Embedding) => v1::ModelKind::Embedding,
        Some(ModelKind::Image) => v1::ModelKind::Image,
        Some(ModelKind::Speech) => v1::ModelKind::Speech,
    }
}

/// A format as a message.
pub fn format_message(format: Option<Format>) -> v1::ModelFormat {
    match format {
        None => v1::ModelFormat::Unspecified,
        Some(Format::Safetensors) => v1::ModelFormat::Safetensors,
        Some(Format::Gguf) => v1::ModelFormat::Gguf,
        Some(Format::Uqff) => v1::ModelFormat::Uqff,
    }
}

/// A data type as a message.
pub fn dtype_message(dtype: Option<DataType>) -> v1::DataType {
    match dtype {
        None => v1::DataType::Unspecified,
        Some(DataType::F32) => v1::DataType::F32,
        Some(DataType::F16) => v1::DataType::F16,
        Some(DataType::Bf16) => v1::DataType::Bf16,
    }
}
