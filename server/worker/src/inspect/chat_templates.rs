//! Where a model's chat templates are, in the order in which transformers looks for them.

use std::path::Path;

use serde_json::{Map, Value};

use super::{directory_files::DirectoryFiles, files};
use crate::failure::Failure;

/// Longest file in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Most files of additional templates.
const MAX_TEMPLATES: usize = 64;

/// Directory of additional templates.
const ADDITIONAL: &str = "additional_chat_templates";

/// A model's chat templates by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Templates(Vec<(String, String)>);

impl Templates {
    /// The one template of a model.
    pub(crate) fn one(source: impl Into<String>) -> Self {
        Self(vec![("default".into(), source.into())])
    }

    /// The templates of a directory, whose tokenizer_config.json has the fields `config`.
    pub(super) fn read(
        found: &DirectoryFiles,
        config: &Map<String, Value>,
    ) -> Result<Self, Failure> {
        let mut templates = additional(&found.directory)?;
        if let Some(path) = &found.template {
            let source = files::read_text(path, MAX_FILE)?;
            templates.push(("default".into(), source));
        }
        if !templates.is_empty() {
            return Ok(Self(templates));
        }
        match config.get("chat_template") {
            Some(Value::String(source)) => return Ok(Self::one(source)),
            Some(Value::Array(named)) => return Ok(Self::listed(named)),
            _ => {}
        }
        match &found.template_json {
            Some(path) => template_in(path).map(Self::one),
            None => Ok(Self::default()),
        }
    }

    /// The templates in a list of names and templates.
    pub(crate) fn listed(named: &[Value]) -> Self {
        let named = named.iter().filter_map(|entry| {
            let text = |name| entry.get(name).and_then(Value::as_str);
            Some((text("name")?.to_owned(), text("template")?.to_owned()))
        });
        Self(named.collect())
    }

    /// The source of the template of this name; the last one of several.
    pub(crate) fn named(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(other, _)| other == name);
        found.map(|(_, source)| source.as_str())
    }

    /// Why there is none that can be used.
    pub(crate) fn why_none(&self) -> String {
        if self.0.is_empty() {
            return "the model has no chat template".into();
        }
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "the model has several chat templates ({}), none of which is named default",
            names.join(", ")
        )
    }
}

/// The template in a chat_template.json.
pub(super) fn template_in(path: &Path) -> Result<String, Failure> {
    let fields: Map<String, Value> = files::read_json(path, MAX_FILE)?;
    match fields.get("chat_template") {
        Some(Value::String(template)) => Ok(template.clone()),
        _ => Err(Failure::unusable(format!(
            "{} has no chat_template. Get the file that belongs to the model.",
            files::name(path)
        ))),
    }
}

/// The templates that have files of their own.
fn additional(directory: &Path) -> Result<Vec<(String, String)>, Failure> {
    let directory = directory.join(ADDITIONAL);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(files::cannot_read(&directory, &e)),
    };
    let mut templates = Vec::new();
    for entry in entries.take(MAX_TEMPLATES) {
        let path = entry
            .map_err(|e| files::cannot_read(&directory, &e))?
            .path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix(".jinja")) {
            templates.push((name.to_owned(), files::read_text(&path, MAX_FILE)?));
        }
    }
    templates.sort();
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(files: &[(&str, &str)], config: &Value) -> Templates {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path(ADDITIONAL)).expect("a directory");
        for (name, text) in files {
            std::fs::write(path(name), text).expect("a file");
        }
        let there = |name: &str| Some(path(name)).filter(|path| path.exists());
        let found = DirectoryFiles {
            directory: directory.path().to_owned(),
            template: there("chat_template.jinja"),
            template_json: there("chat_template.json"),
            ..DirectoryFiles::default()
        };
        let config = config.as_object().cloned().unwrap_or_default();
        Templates::read(&found, &config).expect("templates")
    }

    #[bounded::test]
    fn files_come_before_the_config() {
        const JINJA: (&str, &str) = ("chat_template.jinja", "jinja");
        const MORE: (&str, &str) = ("additional_chat_templates/tool_use.jinja", "more");
        const JSON: (&str, &str) = ("chat_template.json", r#"{"chat_template": "json"}"#);
        let config = json!({"chat_template": "config"});
        let list = json!({"chat_template": [
            {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}, {"name": "x"},
        ]});
        for (files, config, default, tools) in [
            (
                &[JINJA, MORE, JSON][..],
                &config,
                Some("jinja"),
                Some("more"),
            ),
            (&[JINJA], &list, Some("jinja"), None),
            (&[MORE], &config, None, Some("more")),
            (&[JSON], &config, Some("config"), None),
            (&[JSON], &json!({}), Some("json"), None),
            (&[], &list, Some("plain"), Some("tools")),
            (&[], &json!({}), None, None),
        ] {
            let templates = read(files, config);
            assert_eq!(templates.named("default"), default, "{files:?}");
            assert_eq!(templates.named("tool_use"), tools, "{files:?}");
        }
    }
}
