//! What was measured, in Markdown.

use std::time::Duration;

use super::{
    measure::{Answer, Measured},
    reference::ReferenceAnswer,
};

/// Characters of a prompt that are shown.
const SHOWN: usize = 50;

pub(super) const GIB: f64 = (1_u64 << 30) as f64;

/// A load.
pub(super) struct Column {
    pub(super) title: String,
    /// What it was expected to need, in the server's words.
    pub(super) estimate: String,
    pub(super) measured: Measured,
}

impl Column {
    /// Each answer beside the reference's.
    pub(super) fn pairs<'a>(
        &'a self,
        references: &'a [ReferenceAnswer],
    ) -> impl Iterator<Item = (&'a Answer, &'a ReferenceAnswer)> {
        self.measured.answers.iter().zip(references)
    }

    /// How many answers begin as anyone would accept.
    pub(super) fn accepted(&self, references: &[ReferenceAnswer]) -> usize {
        let pairs = self.pairs(references);
        pairs
            .filter(|(answer, reference)| answer.is_accepted(reference))
            .count()
    }

    /// How many tokens are the reference's, of each answer up to the first other one.
    fn same(&self, references: &[ReferenceAnswer]) -> usize {
        let pairs = self.pairs(references);
        pairs
            .map(|(answer, reference)| answer.same(reference))
            .sum()
    }

    /// The largest difference of the log probabilities of these tokens.
    fn difference(&self, references: &[ReferenceAnswer]) -> f32 {
        let pairs = self.pairs(references);
        let all = pairs.map(|(answer, reference)| answer.difference(reference));
        all.fold(0.0, f32::max)
    }

    /// Tokens that are written in a second, the mean of all answers.
    fn rate(&self) -> f64 {
        let answers = &self.measured.answers;
        let sum: f64 = answers.iter().map(|answer| answer.rate).sum();
        sum / answers.len() as f64
    }

    /// How long reading the longest prompt took.
    fn longest(&self, references: &[ReferenceAnswer]) -> Duration {
        let pairs = self.pairs(references);
        let longest = pairs.max_by_key(|(_, reference)| reference.prompt_tokens.len());
        longest.map_or(Duration::ZERO, |(answer, _)| answer.first)
    }
}

/// How answers begin that anyone would accept.
pub(super) fn print_answers(references: &[ReferenceAnswer]) {
    println!("| prompt | is gone on with |\n|---|---|");
    for reference in references {
        let prompt = shown(&reference.prompt);
        println!("| `{prompt}` | `{:?}` |", reference.accepted);
    }
    println!();
}

/// The figures of all loads, a column each.
pub(super) fn print_figures(columns: &[Column], references: &[ReferenceAnswer]) {
    let row = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<String> = columns.iter().map(cell).collect();
        println!("| {name} | {} |", cells.join(" | "));
    };
    row("", &|it| it.title.clone());
    println!("|{}", "---|".repeat(columns.len() + 1));
    let all: usize = references.iter().map(|it| it.tokens.len()).sum();
    let longest = references.iter().map(|it| it.prompt_tokens.len()).max();
    let longest = longest.unwrap_or_default();
    row("engine built, s", &|it| seconds(it.measured.built));
    row("READY, s", &|it| seconds(it.measured.ready));
    row("memory: estimate (with headroom)", &|it| {
        it.estimate.clone()
    });
    row("memory: most while it loads", &|it| gib(it.measured.most));
    row("memory: at READY", &|it| gib(it.measured.held));
    row("answers that begin as anyone would accept", &|it| {
        format!("{} of {}", it.accepted(references), references.len())
    });
    row("tokens as the reference's, up to another", &|it| {
        format!("{} of {all}", it.same(references))
    });
    row("their log probabilities differ by up to", &|it| {
        format!("{:.0e}", it.difference(references))
    });
    row("tokens written a second", &|it| format!("{:.1}", it.rate()));
    row(&format!("{longest} tokens read, s"), &|it| {
        seconds(it.longest(references))
    });
    row("unload, s", &|it| seconds(it.measured.unload));
    row("memory: given back", &|it| gib(it.measured.freed));
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / GIB)
}

/// The end of a prompt, in quotation marks.
fn shown(prompt: &str) -> String {
    let left_out = prompt.chars().count().saturating_sub(SHOWN);
    let end: String = prompt.chars().skip(left_out).collect();
    match left_out {
        0 => format!("{end:?}"),
        _ => format!("… {end:?}"),
    }
}
