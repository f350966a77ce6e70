//! Requests that are refused.

use anyhow::{Context, Result};
use hangar_client::{
    Client, Error,
    v1::{
        ErrorReason, GetInfoRequest, LoadModelRequest, SwitchModelRequest, UnloadModelRequest,
        WatchStatusRequest, load_model_request, unload_model_request,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    refusals::{refusal, wrong_fields},
    server::TestServer,
};
use prost_types::Duration;
use tonic::{Code, Request};

use super::HealthyServer;

async fn info(client: &Client, request: GetInfoRequest) -> Result<(), Error> {
    let answer = client.model_service().get_info(request).await;
    answer
        .map(|_| ())
        .map_err(|status| Error::from_answer(client, status))
}

async fn load(client: &Client, request: LoadModelRequest) -> Result<(), Error> {
    let answer = client.model_service().load_model(request).await;
    answer
        .map(|_| ())
        .map_err(|status| Error::from_answer(client, status))
}

async fn unload(client: &Client, request: UnloadModelRequest) -> Result<(), Error> {
    let answer = client.model_service().unload_model(request).await;
    answer
        .map(|_| ())
        .map_err(|status| Error::from_answer(client, status))
}

async fn watch(client: &Client, request: WatchStatusRequest) -> Result<(), Error> {
    let answer = async {
        let stream = client.model_service().watch_status(request).await?;
        stream.into_inner().message().await
    };
    answer
        .await
        .map(|_| ())
        .map_err(|status| Error::from_answer(client, status))
}

fn load_of(id: &str) -> LoadModelRequest {
    LoadModelRequest {
        target: Some(load_model_request::Target::ModelId(id.into())),
        ..LoadModelRequest::default()
    }
}

fn unload_of(id: &str) -> UnloadModelRequest {
    UnloadModelRequest {
        target: Some(unload_model_request::Target::ModelId(id.into())),
        ..UnloadModelRequest::default()
    }
}

#[hangar_tests::test]
async fn ids_of_wrong_form_are_refused_by_every_call() -> Result<()> {
    let server = HealthyServer::new().await?;
    let client = &server.client;
    for id in [
        ".m",
        "-m",
        "/m",
        "m/",
        "a//b",
        "a/../b",
        "a b",
        "\u{e9}",
        "a\0",
        &"x".repeat(129),
    ] {
        let request = GetInfoRequest {
            model_id: id.into(),
            ..GetInfoRequest::default()
        };
        assert_eq!(
            wrong_fields(info(client, request).await),
            ["model_id"],
            "{id:?}"
        );
        assert_eq!(
            wrong_fields(load(client, load_of(id)).await),
            ["model_id"],
            "{id:?}"
        );
        assert_eq!(
            wrong_fields(unload(client, unload_of(id)).await),
            ["model_id"],
            "{id:?}"
        );
        let request = WatchStatusRequest {
            model_ids: vec!["m".into(), id.into()],
            ..WatchStatusRequest::default()
        };
        assert_eq!(
            wrong_fields(watch(client, request).await),
            ["model_ids[1]"],
            "{id:?}"
        );
    }
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_target_is_required() -> Result<()> {
    let server = HealthyServer::new().await?;
    let client = &server.client;
    assert_eq!(
        wrong_fields(load(client, LoadModelRequest::default()).await),
        ["model_id"]
    );
    assert_eq!(wrong_fields(load(client, load_of("")).await), ["model_id"]);
    assert_eq!(
        wrong_fields(unload(client, UnloadModelRequest::default()).await),
        ["model_id"]
    );
    assert_eq!(
        wrong_fields(unload(client, unload_of("")).await),
        ["model_id"]
    );
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn unknown_models_are_not_found_and_the_error_lists_known_ones() -> Result<()> {
    let server = HealthyServer::new().await?;
    let client = &server.client;
    let request = GetInfoRequest {
        model_id: "other".into(),
        ..GetInfoRequest::default()
    };
    let answers = [
        info(client, request).await,
        load(client, load_of("other")).await,
        unload(client, unload_of("other")).await,
    ];
    for answer in answers {
        let refusal = refusal(answer, Code::NotFound, ErrorReason::ModelNotFound);
        assert_eq!(refusal.details().metadata["known_model_ids"], "sound");
    }
    Ok(())
}

#[hangar_tests::test]
async fn lengths_of_time_are_neither_negative_nor_endless() -> Result<()> {
    let server = HealthyServer::new().await?;
    let client = &server.client;
    for (seconds, nanos) in [
        (-1, 0),
        (i64::MIN, i32::MIN),
        (i64::MAX, i32::MAX),
        (700_000, 0),
    ] {
        let time = Some(Duration { seconds, nanos });
        let request = LoadModelRequest {
            timeout: time,
            ..load_of("sound")
        };
        assert_eq!(wrong_fields(load(client, request).await), ["timeout"]);
        let request = UnloadModelRequest {
            drain_timeout: time,
            ..unload_of("sound")
        };
        assert_eq!(
            wrong_fields(unload(client, request).await),
            ["drain_timeout"]
        );
        let request = WatchStatusRequest {
            progress_interval: time,
            ..WatchStatusRequest::default()
        };
        assert_eq!(
            wrong_fields(watch(client, request).await),
            ["progress_interval"]
        );
    }
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn unknown_numbers_of_enums_are_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    let request = GetInfoRequest {
        view: 99,
        ..GetInfoRequest::default()
    };
    assert_eq!(wrong_fields(info(&server.client, request).await), ["view"]);
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_this_server_did_not_give_are_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    for token in ["x", "1", "\u{1f600}", &"0".repeat(10_000)] {
        let request = WatchStatusRequest {
            resume_token: token.into(),
            ..WatchStatusRequest::default()
        };
        let answer = watch(&server.client, request).await;
        refusal(answer, Code::InvalidArgument, ErrorReason::TokenInvalid);
    }
    Ok(())
}

#[hangar_tests::test]
async fn sessions_and_switches_that_do_not_hold_together_are_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    let client = &server.client;
    let session = LoadModelRequest {
        session_id: "s".into(),
        ..load_of("sound")
    };
    let answer = load(client, session).await;
    refusal(answer, Code::NotFound, ErrorReason::SessionNotFound);
    let session = UnloadModelRequest {
        session_id: "s".into(),
        ..unload_of("sound")
    };
    let answer = unload(client, session).await;
    refusal(answer, Code::NotFound, ErrorReason::SessionNotFound);
    let switch = client
        .model_service()
        .switch_model(SwitchModelRequest::default())
        .await;
    let switch = switch
        .map(|_| ())
        .map_err(|status| Error::from_answer(client, status));
    assert_eq!(wrong_fields(switch), ["alias", "model_id"]);
    server.is_unharmed().await
}

/// tonic refuses a message beyond the limit with OUT_OF_RANGE and gives no details.
#[hangar_tests::test]
async fn a_request_beyond_the_servers_limit_is_refused_and_the_server_goes_on() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::real()
        .fixtures(&fixtures)
        .argument("--max-request-bytes")
        .argument("64KiB");
    let server = options.serving(&fixtures.llama()?, |_| ()).await?;
    let client = &server.client;
    let text = client.tokenize("m", "x".repeat(60 << 10)).send().await?;
    assert_eq!(text.len(), 60 << 10);
    let long = "x".repeat(1 << 20);
    let tokens = client.tokenize("m", "x".repeat(65 << 10)).send().await;
    let answer = client.generate("m").prompt("x".repeat(30 << 20));
    let answer = answer.text().await;
    let load = client.load(&*long).send().await;
    let mut watch = client.watch().model(&*long).stream();
    let event = watch.next().await.context("an answer")?;
    for refused in [
        tokens.map(drop),
        answer.map(drop),
        load.map(drop),
        event.map(drop),
    ] {
        let code = refused.err().map(|error| error.code());
        assert_eq!(code, Some(Code::OutOfRange));
    }
    let short = client.generate("m").prompt("x").max_tokens(3);
    assert_eq!(short.text().await?.text.len(), 3);
    Ok(())
}

#[hangar_tests::test]
async fn a_malformed_deadline_is_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    for deadline in ["1", "x", "-1S", "123456789S", "1 S", ""] {
        let mut request = Request::new(GetInfoRequest::default());
        request
            .metadata_mut()
            .insert("grpc-timeout", deadline.parse()?);
        let answer = server.client.model_service().get_info(request).await;
        let answer = answer.map_err(|status| Error::from_answer(&server.client, status));
        assert_eq!(wrong_fields(answer), ["grpc-timeout"], "{deadline:?}");
    }
    Ok(())
}
