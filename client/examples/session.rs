//! Holds the built-in model for as long as this program lives: however it ends, the model's memory is
//! given back.
//!
//! Needs a running server: `cargo run --release --example session -- http://127.0.0.1:50051`

use std::{env, error::Error, time::Duration};

use hangar_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let client = Client::connect(server).await?;

    // Kept alive in the background until it is closed or dropped.
    let session = client.open_session(Duration::from_secs(30)).await?;
    client.load("demo").demo().session(&session).wait().await?;

    let answer = client.generate("demo").message("user", "What is Hangar?");
    tokio::select! {
        answer = answer.text() => println!("{}", answer?.text),
        // The server was restarted, or could not be reached for the session's whole time to live.
        error = session.expired() => return Err(error.into()),
    }

    // At once; without this the session would lapse after its time to live.
    let unloading = session.close().await?;
    eprintln!("unloading {}", unloading.join(", "));
    Ok(())
}
