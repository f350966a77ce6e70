//! What a switch makes of an alias, and where an alias may stand.

use anyhow::Result;
use hangar_client::v1::{LoadModelRequest, ModelState, SwitchOutcome, SwitchStrategy};
use hangar_tests::{
    feed::News,
    house::House,
    stubs::{load_again, switch},
};

use crate::{ALIAS, last, one_and_two, target};

#[tokio::test]
async fn the_first_switch_makes_the_alias() -> Result<()> {
    let house = House::real().await?;
    house.llama("one").await?;
    house.client.unload("one").send().await?;
    let mut feed = house.feed().await?;
    let request = switch(ALIAS, "one", SwitchStrategy::Unspecified);
    let begun = house.stubs.switch(request).await?;
    assert_eq!(begun.strategy(), SwitchStrategy::LoadFirst);
    assert!(begun.estimated_time.is_some());
    let news = feed.news_to_end_of(&begun.switch_id).await?;

    let Some(News::Switch(began)) = news.first() else {
        anyhow::bail!("the switch does not come first: {news:?}");
    };
    assert_eq!(began.outcome(), SwitchOutcome::Unspecified);
    assert_eq!(
        (began.alias.as_str(), began.to_model_id.as_str()),
        (ALIAS, "one")
    );
    assert_eq!(began.from_model_id, "");
    assert!(began.start_time.is_some() && began.end_time.is_none());
    let place = |wanted: &News| news.iter().position(|news| news == wanted);
    let ready = place(&News::State("one".into(), ModelState::Ready));
    let moved = place(&News::Aliases("one".into(), vec![ALIAS.into()]));
    assert!(ready.is_some() && ready < moved, "{news:?}");
    assert_eq!(moved, Some(news.len() - 2), "the end comes right behind");

    let Some(News::Switch(ended)) = news.last() else {
        anyhow::bail!("the switch does not come last: {news:?}");
    };
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!((ended.reason.as_str(), ended.message.as_str()), ("", ""));
    assert!(ended.end_time.is_some());
    assert_eq!(last(&house).await?, **ended);
    assert_eq!(house.stubs.info("one").await?.aliases, [ALIAS]);
    assert!(house.stubs.is_desired("one").await?);
    assert!(house.stubs.info("one").await?.holders.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_alias_stands_wherever_an_id_may() -> Result<()> {
    let house = House::real().await?;
    let mut feed = one_and_two(&house).await?;
    assert_eq!(house.answer(ALIAS).await?, house.answer("one").await?);
    let tokens = house.client.tokenize(ALIAS, "Hello").send().await?;
    assert_eq!(tokens, house.client.tokenize("one", "Hello").send().await?);
    let text = house.client.detokenize(ALIAS, tokens).send().await?;
    assert_eq!(text, "Hello");
    assert_eq!(target(&house).await?, "one");
    let loaded = house.client.load(ALIAS).wait().await?;
    assert!(loaded.already_loaded);
    assert_eq!(loaded.model_id, "one");

    let session = house.stubs.create_session(None).await?;
    let held = LoadModelRequest {
        session_id: session.session_id.clone(),
        ..load_again(ALIAS)
    };
    house.stubs.load(held).await?;
    let found = house.stubs.session(&session.session_id).await?;
    assert_eq!(found.model_ids, ["one"]);
    house.stubs.close(&session.session_id).await?;

    let unloaded = house.client.unload(ALIAS).send().await?;
    assert_eq!(
        (unloaded.model_id.as_str(), unloaded.was_loaded),
        ("one", true)
    );
    feed.until("one", ModelState::Unloaded).await?;
    assert!(!house.stubs.is_desired("one").await?);
    house.client.load(ALIAS).wait().await?;
    assert_eq!(house.answer(ALIAS).await?, house.answer("one").await?);
    Ok(())
}

#[tokio::test]
async fn an_alias_may_name_the_new_model() -> Result<()> {
    let house = House::real().await?;
    let mut feed = one_and_two(&house).await?;
    let request = switch("other", ALIAS, SwitchStrategy::LoadFirst);
    let begun = house.stubs.switch(request).await?;
    let ended = feed.ended(&begun.switch_id).await?;
    assert_eq!(ended.to_model_id, "one");
    assert_eq!(house.stubs.info("one").await?.aliases, [ALIAS, "other"]);
    let aliases: Vec<_> = house.stubs.switches().await?;
    let aliases: Vec<_> = aliases.iter().map(|switch| switch.alias.as_str()).collect();
    assert_eq!(aliases, [ALIAS, "other"]);
    Ok(())
}

#[tokio::test]
async fn a_switch_to_where_the_alias_points_changes_nothing() -> Result<()> {
    let house = House::real().await?;
    let mut feed = one_and_two(&house).await?;
    let before = house.stubs.info("one").await?.status.unwrap_or_default();
    for strategy in [SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst] {
        let begun = house.stubs.switch(switch(ALIAS, "one", strategy)).await?;
        let ended = feed.ended(&begun.switch_id).await?;
        assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    }
    let after = house.stubs.info("one").await?.status.unwrap_or_default();
    assert_eq!(before.generation, after.generation);
    assert_eq!(before.worker_pid, after.worker_pid);
    assert_eq!(target(&house).await?, "one");
    Ok(())
}
