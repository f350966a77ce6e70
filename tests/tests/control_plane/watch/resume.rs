//! Going on behind a token, and what comes where that is not possible.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hangar_client::v1::{ChangeKind, ErrorReason, ModelState, watch_status_response::Event};
use hangar_tests::{fixtures::Fixtures, refusals::refusal, server::TestServer};
use tonic::Code;

use super::{
    frequent_changes::{FAILED_LOAD, fail, unusable, unusable_at_length},
    raw::{assert_contiguous, behind, of, open, status},
};

#[hangar_tests::test]
async fn a_watch_goes_on_right_behind_a_token_with_any_filter() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let path = unusable(&fixtures)?;
    let mut watch = open(&client, of(&["a"])).await?;
    watch.snapshot().await?;
    fail(&client, "a", &path).await?;
    let starting = watch.transitions(2).await?;
    assert_eq!(status(&starting[1])?.state(), ModelState::Starting);
    let token = watch.token.clone();
    drop(watch);
    fail(&client, "b", &path).await?;

    let mut all = open(&client, behind(&token, &[])).await?;
    let rest = all.transitions(1 + FAILED_LOAD).await?;
    let ids = rest
        .iter()
        .map(|changed| Ok(status(changed)?.model_id.as_str()));
    assert_eq!(ids.collect::<Result<Vec<_>>>()?, ["a", "b", "b", "b"]);
    assert_eq!(rest[0].revision, 3);
    assert_contiguous(&rest);

    let mut other = open(&client, behind(&token, &["b"])).await?;
    assert_eq!(other.transitions(FAILED_LOAD).await?, rest[1..]);

    let mut end = open(&client, behind(&all.token, &[])).await?;
    fail(&client, "c", &path).await?;
    assert_eq!(end.transition().await?.revision, 7);
    Ok(())
}

#[hangar_tests::test]
async fn a_token_of_an_earlier_server_leads_to_a_reset() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let data = tempfile::tempdir()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(&data.path().join("data"));
    let server = options.start().await?;
    let client = server.connect().await?;
    fail(&client, "gone", &unusable(&fixtures)?).await?;
    let mut watch = open(&client, of(&[])).await?;
    assert_eq!(watch.snapshot().await?.models.len(), 1);
    let token = watch.token.clone();
    drop((watch, client));
    server.terminate().await?;

    let server = options.start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, behind(&token, &[])).await?;
    let snapshot = watch.snapshot().await?;
    assert!(snapshot.reset);
    let ids: Vec<_> = snapshot
        .models
        .iter()
        .map(|model| &model.model_id)
        .collect();
    assert_eq!(ids, ["gone"]);
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_the_server_did_not_give_are_refused() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&[])).await?;
    watch.snapshot().await?;
    let (epoch, position) = watch.token.rsplit_once('-').context("no position")?;
    let future = format!("{epoch}-{}", position.parse::<u64>()? + 1);
    let far = format!("{epoch}-{}", u64::MAX);
    let huge = "9".repeat(1 << 20);
    let signed = format!("{epoch}-+0");
    let spaced = format!(" {}", watch.token);
    for token in [
        "x",
        "-",
        "0-0",
        epoch,
        &future,
        &far,
        &huge,
        &signed,
        &spaced,
        "\u{1F600}",
    ] {
        let shown = &token[..token.len().min(80)];
        let result = open(&client, behind(token, &[])).await;
        assert!(result.is_err(), "{shown:?} was taken");
        refusal(result, Code::InvalidArgument, ErrorReason::TokenInvalid);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_token_that_is_too_old_leads_to_a_reset() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--watch-ring")
        .argument("16");
    let server = options.start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&[])).await?;
    watch.snapshot().await?;
    let oldest = watch.token.clone();
    let mut tokens = Vec::new();
    for _ in 0..6 {
        fail(&client, "m", &unusable(&fixtures)?).await?;
        for _ in 0..FAILED_LOAD {
            watch.transition().await?;
            tokens.push(watch.token.clone());
        }
    }
    // 18 transitions: the ring holds 3 to 18, so that one can go on behind 2.
    for (token, is_reset) in [(&oldest, true), (&tokens[0], true), (&tokens[1], false)] {
        let mut resumed = open(&client, behind(token, &[])).await?;
        if is_reset {
            let snapshot = resumed.snapshot().await?;
            assert!(snapshot.reset);
            assert_eq!(snapshot.models[0].generation, 18);
        } else {
            let rest = resumed.transitions(16).await?;
            assert_eq!(rest[0].revision, 3);
            assert_contiguous(&rest);
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_watcher_that_does_not_keep_up_is_reset_and_then_misses_nothing() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--watch-ring")
        .argument("16");
    let server = options.start().await?;
    let client = server.connect().await?;
    let mut watch = open(&server.connect().await?, of(&[])).await?;
    watch.snapshot().await?;
    // More than all buffers between server and watcher hold.
    let path = unusable_at_length(&fixtures)?;
    for n in 0..1500 {
        fail(&client, &format!("m{}", n % 3), &path).await?;
    }
    let mut generations = BTreeMap::new();
    let mut last = 0;
    let mut resets = 0;
    let total = 1500 * FAILED_LOAD as u64;
    while last < total {
        let response = watch.response().await??;
        match &response.event {
            Some(Event::Changed(changed)) if changed.kind() == ChangeKind::Transition => {
                let status = status(changed)?;
                let generation = generations.entry(status.model_id.clone()).or_insert(0);
                assert_eq!(status.generation, *generation + 1, "after {resets} resets");
                *generation = status.generation;
                if last > 0 {
                    assert_eq!(changed.revision, last + 1);
                }
                last = changed.revision;
            }
            Some(Event::Snapshot(_)) => {
                let whole = watch.rest_of_snapshot(response).await?;
                assert!(whole.reset);
                resets += 1;
                let reported = whole
                    .models
                    .iter()
                    .map(|m| (m.model_id.clone(), m.generation));
                generations = reported.collect();
                // Each transition is a generation of one model, and none was removed.
                last = generations.values().sum();
            }
            _ => {}
        }
    }
    assert!(resets > 0, "the watcher kept up");
    assert_eq!(generations.values().sum::<u64>(), total);
    Ok(())
}
