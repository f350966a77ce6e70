//! The main job: load the built-in model and watch it load, ask it something, unload it.
//!
//! Needs a running server: `cargo run --release --example load_and_generate -- http://127.0.0.1:50051`

use std::{env, error::Error, io::Write};

use hangar_client::{Client, GenerateEvent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let client = Client::connect(server).await?;

    let load = client.load("demo").demo().wait_with(|status| {
        let percent = status
            .progress
            .as_ref()
            .map_or(0.0, |progress| progress.fraction * 100.0);
        eprintln!("{:?} {percent:.0} %", status.state());
    });
    let loaded = load.await?;
    eprintln!("{} is ready", loaded.model_id);

    let mut answer = client
        .generate("demo")
        .message("user", "What is Hangar?")
        .max_tokens(64)
        .stream()
        .await?;
    while let Some(event) = answer.next().await {
        match event? {
            GenerateEvent::Chunk(chunk) => print!("{}", chunk.text),
            GenerateEvent::Done(done) => println!("\n{:?}", done.finish_reason()),
        }
        std::io::stdout().flush()?;
    }

    let unloaded = client.unload("demo").send().await?;
    eprintln!("{} bytes came back", unloaded.host_bytes_freed);
    Ok(())
}
