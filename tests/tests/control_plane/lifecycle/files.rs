//! A loaded model's files, and that a change is reported.

use anyhow::Result;
use hangar_tests::{info, server::TestServer};

#[hangar_tests::test]
async fn a_model_whose_files_have_changed_says_so_until_it_is_loaded_anew() -> Result<()> {
    let server = TestServer::tiny().await?;
    let reported = server.info().await?;
    assert!(!reported.reload_required && reported.reload_reason.is_empty());
    let directory = server.fixtures.llama()?;
    // Nothing that an engine reads.
    std::fs::write(directory.join("README.md"), "new")?;
    let weights = directory.join("model.safetensors");
    let bytes = std::fs::read(&weights)?;
    let new = directory.join("model.new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, &weights)?;
    let reported = info::when(&server.client, "m", |info| info.reload_required).await?;
    assert!(
        reported.reload_reason.contains("model.safetensors"),
        "{reported:?}"
    );
    assert!(server.client.load("m").wait().await?.already_loaded);
    server.greedy("Hello").max_tokens(1).text().await?;
    server.client.load("m").force_reload().wait().await?;
    let reported = server.info().await?;
    assert!(!reported.reload_required && reported.reload_reason.is_empty());
    std::fs::remove_file(directory.join("tokenizer_config.json"))?;
    let reported = info::when(&server.client, "m", |info| info.reload_required).await?;
    assert!(
        reported.reload_reason.contains("tokenizer_config.json"),
        "{reported:?}"
    );
    server.client.unload("m").send().await?;
    assert!(!server.info().await?.reload_required, "nothing is loaded");
    Ok(())
}

#[hangar_tests::test]
async fn files_that_are_as_they_were_again_need_no_reload() -> Result<()> {
    let server = TestServer::tiny().await?;
    let config = server.fixtures.llama()?.join("generation_config.json");
    let moved = server.fixtures.outside().join("generation_config.json");
    let there = config.exists();
    if there {
        std::fs::rename(&config, &moved)?;
    } else {
        std::fs::write(&config, "{}")?;
    }
    info::when(&server.client, "m", |info| info.reload_required).await?;
    if there {
        std::fs::rename(&moved, &config)?;
    } else {
        std::fs::remove_file(&config)?;
    }
    info::when(&server.client, "m", |info| !info.reload_required).await?;
    Ok(())
}
