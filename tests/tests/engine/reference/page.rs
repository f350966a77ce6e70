//! The page of models says what the suite has seen.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Result;
use hangar_tests::{
    fixtures::{GgufReference, Reference},
    workspace::workspace,
};

use super::{REFUSED, gguf_models};

/// What stands before the table.
const HEAD: &str = include_str!("head.md");

/// What stands before the table of GGUF files.
const GGUF_HEAD: &str = "
| GGUF architecture | served | refused |
|---|---|---|
";

#[hangar_tests::test]
fn the_page_of_models_agrees_with_the_reference() -> Result<()> {
    let path = workspace().join("docs/models.md");
    let page = page()?;
    if std::env::var_os("HANGAR_WRITE_PAGES").is_some() {
        std::fs::write(&path, &page)?;
    }
    let written = std::fs::read_to_string(&path)?;
    assert_eq!(written, page, "write it with HANGAR_WRITE_PAGES=1");
    Ok(())
}

/// Names of models that are served and refused, by architecture.
#[derive(Default)]
struct Rows(BTreeMap<String, (Vec<String>, Vec<String>)>);

impl Rows {
    fn add(&mut self, architecture: &str, name: String, refused: &[(&str, &str)]) {
        let row = self.0.entry(architecture.to_owned()).or_default();
        match refused.iter().find(|(refused, _)| *refused == name) {
            None => row.0.push(name),
            Some((_, why)) => row.1.push(format!("{name} (`{why}`)")),
        }
    }

    fn write(&self, page: &mut String) -> Result<()> {
        for (architecture, (served, refused)) in &self.0 {
            let (served, refused) = (served.join(", "), refused.join(", "));
            writeln!(page, "| {architecture} | {served} | {refused} |")?;
        }
        Ok(())
    }
}

fn page() -> Result<String> {
    let (mut rows, mut gguf) = (Rows::default(), Rows::default());
    for model in Reference::all()? {
        let architecture = model.config["architectures"][0].clone();
        rows.add(
            architecture.as_str().unwrap_or_default(),
            model.name,
            REFUSED,
        );
    }
    for model in GgufReference::all()? {
        let architecture = model.architecture().to_owned();
        gguf.add(&architecture, model.name, gguf_models::REFUSED);
    }
    let mut page = HEAD.to_owned();
    rows.write(&mut page)?;
    page.push_str(GGUF_HEAD);
    gguf.write(&mut page)?;
    Ok(page)
}
