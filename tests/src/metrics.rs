//! Prometheus' text format (0.0.4), read strictly.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Context, Result};

use crate::http;

/// Metrics of one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Type of each family.
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

/// A value of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric, suffix included.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Metrics {
    /// Fetches the metrics of a server from its ops port.
    ///
    /// # Errors
    ///
    /// When they cannot be had, or are not of the format.
    pub async fn of(ops: SocketAddr) -> Result<Self> {
        let answer = http::get(ops, "/metrics").await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        let form = "content-type: text/plain; version=0.0.4";
        anyhow::ensure!(answer.head.contains(form), "{}", answer.head);
        Self::parse(&answer.body)
    }

    /// Reads a text. Every line has to be of the format; a family has one type, given before its samples,
    /// and a series one value.
    ///
    /// # Errors
    ///
    /// The first line that is not as it has to be.
    pub fn parse(text: &str) -> Result<Self> {
        anyhow::ensure!(
            text.is_empty() || text.ends_with('\n'),
            "the last line does not end"
        );
        let mut metrics = Self::default();
        let mut series = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            metrics
                .line(line, &mut series)
                .with_context(|| format!("in {line:?}"))?;
        }
        Ok(metrics)
    }

    /// The samples of this name with at least these labels.
    pub fn matching(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &Sample| {
            let is =
                |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|v| v == value);
            sample.name == name && labels.iter().all(is)
        };
        self.samples.iter().filter(|sample| has(sample)).collect()
    }

    /// The sum of [`Self::matching`]; nothing where there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let samples = self.matching(name, labels);
        (!samples.is_empty()).then(|| samples.iter().map(|sample| sample.value).sum())
    }

    fn line(&mut self, line: &str, series: &mut BTreeSet<String>) -> Result<()> {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next(), words.next().context("no name")?);
            anyhow::ensure!(is_name(name), "{name:?} is no name");
            let rest = words.next().unwrap_or_default();
            if kind == Some("TYPE") {
                let known = ["counter", "gauge", "histogram", "summary", "untyped"];
                anyhow::ensure!(known.contains(&rest), "unknown type");
                let before = self.types.insert(name.to_owned(), rest.to_owned());
                anyhow::ensure!(before.is_none(), "a second type");
            } else {
                anyhow::ensure!(kind == Some("HELP"), "neither HELP nor TYPE");
            }
            return Ok(());
        }
        let sample = sample(line)?;
        let suffixes = ["_bucket", "_sum", "_count"];
        let family = suffixes.iter().find_map(|suffix| {
            let family = sample.name.strip_suffix(suffix)?;
            (self.types.get(family)? == "histogram").then_some(family)
        });
        let family = family.unwrap_or(&sample.name);
        anyhow::ensure!(self.types.contains_key(family), "no type came before");
        let key = format!("{}{:?}", sample.name, sample.labels);
        anyhow::ensure!(series.insert(key), "a second value of this series");
        self.samples.push(sample);
        Ok(())
    }
}

fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    anyhow::ensure!(is_name(name), "{name:?} is no name");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").context("no label")?;
            anyhow::ensure!(is_name(key) && !key.contains(':'), "{key:?} is no label");
            let (value, after) = quoted(after)?;
            anyhow::ensure!(
                labels.insert(key.to_owned(), value).is_none(),
                "{key:?} twice"
            );
            rest = after.strip_prefix(',').unwrap_or(after);
            anyhow::ensure!(
                rest.len() < after.len() || rest.starts_with('}'),
                "no comma"
            );
        }
        rest = &rest[1..];
    }
    let value = rest
        .strip_prefix(' ')
        .context("no space before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse()?,
    };
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The label value up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some(escaped @ ('\\' | '"')) => value.push(escaped),
                other => anyhow::bail!("{other:?} is escaped"),
            },
            other => value.push(other),
        }
    }
    anyhow::bail!("a label does not end")
}

fn is_name(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty() && text.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[hangar_tests::test]
    fn metrics_text_is_parsed() -> Result<()> {
        let metrics = Metrics::parse(
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\"} 2\n\
             a_total{x=\"2\"} 3e0\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 0.5\nh_count 1\n",
        )?;
        assert_eq!(metrics.value("a_total", &[]), Some(5.0));
        assert_eq!(metrics.value("a_total", &[("y", "q\"")]), Some(2.0));
        assert_eq!(metrics.value("b", &[]), None);
        Ok(())
    }

    #[hangar_tests::test]
    fn malformed_metrics_text_is_refused() {
        for text in [
            "a 1\n",
            "# TYPE a gauge\na 1",
            "# TYPE a gauge\na one\n",
            "# TYPE a gauge\na 1\na 2\n",
            "# TYPE a gauge\n# TYPE a gauge\n",
            "# TYPE a thing\n",
            "# TYPE a gauge\na{b=\"c} 1\n",
            "# TYPE a gauge\na{b=\"c\"d=\"e\"} 1\n",
            "# TYPE a gauge\n1a 1\n",
        ] {
            assert!(Metrics::parse(text).is_err(), "{text:?}");
        }
    }
}
