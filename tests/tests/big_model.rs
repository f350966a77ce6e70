//! Progress of a model of 886 MB. Ignored by default; run with `cargo test --release --test big_model
//! -- --ignored`.

use anyhow::Result;
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{Hangar, Options, spec},
};

#[tokio::test]
#[ignore = "writes 886 MB"]
async fn progress_is_what_is_seen_from_outside() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let start = std::time::Instant::now();
    let path = fixtures.big_llama()?;
    println!("written in {:?}", start.elapsed());
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let client = hangar.client().await?;
    let load = client.load("big").spec(spec(&path));
    let load = load
        .wait_with(|status| println!("{:?} {:?}", status.state(), status.progress))
        .await?;
    println!("{:?}", load.status);
    let text = client
        .generate("big")
        .prompt("Hello")
        .temperature(0.0)
        .max_tokens(40)
        .text()
        .await?;
    println!("{:?} {:?}", text.text, text.done.timings);
    let unload = client.unload("big").send().await?;
    println!("{unload:?}");
    Ok(())
}
