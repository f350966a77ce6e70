//! Update masks: which fields of an entry a call changes.

use std::sync::LazyLock;

use hangar_client::v1;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

use crate::rpc::{error::ApiError, validate::Violations};

/// A mask that names only fields that can be changed.
#[derive(Debug)]
pub(super) struct Mask {
    paths: Vec<Vec<FieldDescriptor>>,
}

/// Fields of an entry that are the server's.
const OUTPUT_ONLY: &[&str] = &[
    "uid",
    "etag",
    "version",
    "create_time",
    "update_time",
    "origin",
];

/// Paths of a mask.
const MAX_PATHS: usize = 100;

static MODEL: LazyLock<Result<MessageDescriptor, String>> = LazyLock::new(|| {
    let pool =
        DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    let model = pool.get_message_by_name("hangar.v1.Model");
    model.ok_or_else(|| "there is no hangar.v1.Model".to_owned())
});

impl Mask {
    /// The mask of `paths`. What is wrong with them is added to `violations`.
    ///
    /// # Errors
    ///
    /// When the built-in descriptors are damaged.
    pub(super) fn parse(paths: &[String], violations: &mut Violations) -> Result<Self, ApiError> {
        let model = model()?;
        if paths.is_empty() {
            violations.add("update_mask", "is required: name the fields to change");
        }
        let count = paths.len() <= MAX_PATHS;
        violations.check(count, "update_mask", "must have at most 100 paths");
        let mut found = Vec::new();
        for (n, path) in paths.iter().take(MAX_PATHS).enumerate() {
            match walk(&model, path) {
                Ok(fields) => found.push(fields),
                Err(what) => violations.add(format!("update_mask.paths[{n}]"), what),
            }
        }
        Ok(Self { paths: found })
    }

    /// Whether it names `field` of the entry, or one below it.
    pub(super) fn names(&self, field: &str) -> bool {
        let first = |path: &Vec<FieldDescriptor>| path.first().is_some_and(|f| f.name() == field);
        self.paths.iter().any(first)
    }

    /// `current` with the fields that the mask names as they are in `given`.
    ///
    /// # Errors
    ///
    /// When the built-in descriptors are damaged.
    pub(super) fn apply(
        &self,
        given: &v1::Model,
        current: &v1::Model,
    ) -> Result<v1::Model, ApiError> {
        let model = model()?;
        let internal = |error: prost::DecodeError| ApiError::Internal(error.to_string());
        let mut source = DynamicMessage::new(model.clone());
        source.transcode_from(given).map_err(internal)?;
        let mut target = DynamicMessage::new(model);
        target.transcode_from(current).map_err(internal)?;
        for path in &self.paths {
            copy(Some(&source), &mut target, path);
        }
        target.transcode_to().map_err(internal)
    }
}

fn model() -> Result<MessageDescriptor, ApiError> {
    let model = MODEL.as_ref();
    model
        .cloned()
        .map_err(|error| ApiError::Internal(error.clone()))
}

/// The fields on the way along `path`.
fn walk(model: &MessageDescriptor, path: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for name in path.split('.') {
        let message = match fields.last() {
            None => model.clone(),
            Some(field) if field.is_list() || field.is_map() => {
                return Err(format!(
                    "{} is changed as a whole: name nothing below it",
                    field.name()
                ));
            }
            Some(field) => match field.kind() {
                Kind::Message(message) if !is_well_known(&message) => message,
                _ => return Err(format!("there is nothing below {}", field.name())),
            },
        };
        let field = message.get_field_by_name(name);
        fields.push(field.ok_or_else(|| format!("there is no field {path:?} in an entry"))?);
    }
    match fields.first().map(FieldDescriptor::name) {
        Some("spec" | "aliases") => Ok(fields),
        Some("model_id") => Err("model_id is never changed".to_owned()),
        Some(name) if OUTPUT_ONLY.contains(&name) => Err(format!("{name} is output only")),
        _ => Err(format!("there is no field {path:?} in an entry")),
    }
}

/// Messages that are one value.
fn is_well_known(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

/// Makes the field at the end of `path` in `target` what it is in `source`, or clears it.
fn copy(source: Option<&DynamicMessage>, target: &mut DynamicMessage, path: &[FieldDescriptor]) {
    let Some((field, below)) = path.split_first() else {
        return;
    };
    let given = source.filter(|source| source.has_field(field));
    let value = given.map(|source| source.get_field(field));
    if below.is_empty() {
        match value {
            Some(value) => target.set_field(field, value.into_owned()),
            None => target.clear_field(field),
        }
        return;
    }
    let value = value.as_deref().and_then(|value| value.as_message());
    if value.is_none() && !target.has_field(field) {
        // There is nothing to clear.
        return;
    }
    if let Some(target) = target.get_field_mut(field).as_message_mut() {
        copy(value, target, below);
    }
}

#[cfg(test)]
mod tests;
