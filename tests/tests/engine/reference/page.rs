//! The page of models says what the suite has seen.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Result;
use hangar_tests::{fixtures::Reference, workspace::workspace};

use super::REFUSED;

/// What stands before the table.
const HEAD: &str = include_str!("head.md");

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

fn page() -> Result<String> {
    let mut rows: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for model in Reference::all()? {
        let architecture = model.config["architectures"][0]
            .as_str()
            .unwrap_or_default();
        let (served, refused) = rows.entry(architecture.to_owned()).or_default();
        match REFUSED.iter().find(|(name, _)| *name == model.name) {
            None => served.push(model.name),
            Some((_, why)) => refused.push(format!("{} (`{why}`)", model.name)),
        }
    }
    let mut page = HEAD.to_owned();
    for (architecture, (served, refused)) in rows {
        let (served, refused) = (served.join(", "), refused.join(", "));
        writeln!(page, "| {architecture} | {served} | {refused} |")?;
    }
    Ok(page)
}
