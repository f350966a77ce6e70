//! `hangarctl embed`.

use hangar_client::{Client, v1::Embedding};

use crate::{
    args::embed::EmbedArgs,
    output::{self, Failure, Writer},
};

/// Numbers of a vector that people are shown.
const SHOWN: usize = 4;

pub(crate) async fn run(client: &Client, args: EmbedArgs, writer: &Writer) -> Result<(), Failure> {
    let texts = match args.texts {
        texts if texts.is_empty() => lines(&output::text_or_stdin(None)?),
        texts => texts,
    };
    let mut call = client.embed(args.model).inputs(texts);
    call = call.priority(args.priority);
    if let Some(timeout) = args.timeout {
        call = call.timeout(timeout);
    }
    let response = call.send().await?;
    if writer.is_json() {
        return writer.message("hangar.v1.EmbedResponse", &response);
    }
    for embedding in &response.embeddings {
        writer.line(&summary(embedding))?;
    }
    Ok(())
}

/// The lines of a text that are not empty.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(ToOwned::to_owned).collect()
}

/// The beginning of a vector, its size and length, and what it took.
fn summary(embedding: &Embedding) -> String {
    let values = &embedding.values;
    let first: Vec<_> = values
        .iter()
        .take(SHOWN)
        .map(|x| format!("{x:.4}"))
        .collect();
    let more = if values.len() > SHOWN { ", …" } else { "" };
    let squares: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    format!(
        "[{}{more}]  {} numbers, length {:.4}, {} tokens",
        first.join(", "),
        values.len(),
        squares.sqrt(),
        embedding.token_count
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn people_see_the_beginning_of_a_vector() {
        let embedding = |values: &[f32]| Embedding {
            values: values.to_vec(),
            token_count: 3,
        };
        assert_eq!(
            summary(&embedding(&[0.6, -0.8])),
            "[0.6000, -0.8000]  2 numbers, length 1.0000, 3 tokens"
        );
        let long = summary(&embedding(&[0.0; 5]));
        assert_eq!(
            long,
            "[0.0000, 0.0000, 0.0000, 0.0000, …]  5 numbers, length 0.0000, 3 tokens"
        );
    }

    #[bounded::test]
    fn each_line_is_a_text() {
        assert_eq!(lines("a\n\nb b\r\n"), ["a", "b b"]);
    }
}
