//! The glossary is short, in order, and has words that somebody uses.

use super::*;
use crate::sources::sources;

/// Terms at most: what needs more of them needs other words.
const MAX_TERMS: usize = 30;

#[bounded::test]
fn the_glossary_has_few_terms_in_order_and_no_unused_one() -> Result<()> {
    let page = fs::read_to_string(workspace().join("docs/glossary.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let mut terms = rows.filter_map(|row| Some(row.split_once(" | ")?.0));
    anyhow::ensure!(terms.next() == Some("term"), "no heading");
    let terms: Vec<_> = terms.collect();
    anyhow::ensure!(terms.is_sorted(), "{terms:?}");
    anyhow::ensure!((1..=MAX_TERMS).contains(&terms.len()), "{}", terms.len());
    let mut texts = sources(&["server", "client"])?;
    for map in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(workspace().join(map))?;
        texts.push((map.to_owned(), text));
    }
    // Words of a name count too.
    let joined = |text: &str| text.to_lowercase().replace([' ', '_'], "");
    let texts: Vec<_> = texts.iter().map(|(_, text)| joined(text)).collect();
    for term in terms {
        let used = texts.iter().any(|text| text.contains(&joined(term)));
        anyhow::ensure!(used, "nobody says {term}");
    }
    Ok(())
}
