//! Vectors of texts: which of some texts is nearest to a question.
//!
//! Needs a running server with a loaded embedding model:
//! `cargo run --release --example embed -- http://127.0.0.1:50051 MODEL`

use std::{env, error::Error};

use hangar_client::Client;

const TEXTS: [&str; 3] = [
    "A hangar is a building for aircraft.",
    "Bread rises because yeast makes gas.",
    "The moon moves the tides.",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let model = arguments.next().ok_or("name the model to use")?;
    let client = Client::connect(server).await?;

    let question = "Where are planes kept?";
    let response = client
        .embed(model)
        .input(question)
        .inputs(TEXTS)
        .send()
        .await?;
    let Some((asked, texts)) = response.embeddings.split_first() else {
        return Err("no vectors came".into());
    };
    eprintln!("{} tokens", response.prompt_tokens);
    for (text, embedding) in TEXTS.iter().zip(texts) {
        // Vectors of such models have length one: this is the cosine of the angle between two.
        let pairs = asked.values.iter().zip(&embedding.values);
        let near: f32 = pairs.map(|(a, b)| a * b).sum();
        println!("{near:.3}  {text}");
    }
    Ok(())
}
