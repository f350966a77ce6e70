//! The last loads of a model, as GetInfo reports them.

use anyhow::Result;
use hangar_client::v1::{
    InfoView, LoadOutcome,
    LoadOutcome::{Cancelled, Failed, Succeeded},
    ModelState::Loading,
};
use hangar_tests::{
    scripted::{LoadKind, Script},
    server::TestServer,
};

#[hangar_tests::test]
async fn the_last_eight_loads_are_listed_newest_first() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(server.load_m().force_reload().wait().await?.load_id);
    }
    ids.reverse();
    ids.truncate(8);
    let loads = server.info().await?.recent_loads;
    let reported: Vec<_> = loads.iter().map(|load| load.load_id.as_str()).collect();
    assert_eq!(reported, ids);
    for load in &loads {
        assert_eq!((load.outcome(), load.attempts), (Succeeded, 1));
        assert_eq!((load.reason.as_str(), load.message.as_str()), ("", ""));
        assert!(load.start_time.is_some() && load.end_time.is_some());
    }
    let times: Vec<_> = loads
        .iter()
        .filter_map(|load| load.start_time)
        .map(|time| (time.seconds, time.nanos))
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer > older),
        "{times:?}"
    );
    let basic = server
        .client
        .info()
        .model("m")
        .view(InfoView::Basic)
        .send()
        .await?;
    assert!(
        basic
            .models
            .iter()
            .all(|model| model.recent_loads.is_empty() && model.spec.is_none())
    );
    Ok(())
}

#[hangar_tests::test]
async fn each_load_is_listed_with_its_outcome() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::loading(LoadKind::Error))
        .start()
        .await?;
    assert!(server.load_m().wait().await.is_err());
    let fail = LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "The weights are missing. Copy them there.".into(),
    };
    Script::loading(fail).write(&server.directory)?;
    assert!(server.load_m().wait().await.is_err());
    Script::gated().write(&server.directory)?;
    let held = server.hold(Loading).await?;
    server.client.unload("m").send().await?;
    held.gate.open()?;
    server.ready().await?;
    let loads = server.info().await?.recent_loads;
    let outcomes: Vec<LoadOutcome> = loads.iter().map(|load| load.outcome()).collect();
    assert_eq!(outcomes, [Succeeded, Cancelled, Failed, Failed]);
    assert_eq!(loads[2].reason, "MODEL_UNUSABLE");
    assert_eq!(
        loads[2].message,
        "The weights are missing. Copy them there."
    );
    assert_eq!(loads[3].reason, "WORKER_DIED");
    Ok(())
}
