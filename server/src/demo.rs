//! `hangar demo`: plays the main job against the server's own public API, for a person to watch.

mod screen;

use std::{io, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context;
use hangar_client::{
    Client, GenerateEvent,
    v1::{ModelInfo, ModelState, ModelUnload},
};

use crate::{
    config::{DemoArguments, Settings, SettingsArguments},
    server::{Server, StartError},
    signal::Signals,
    supervisor::FAULT,
    telemetry::Telemetry,
};
use screen::Screen;

/// The model that is played with.
const MODEL: &str = "demo";

/// What it is asked.
const QUESTIONS: &[&str] = &[
    "What is Hangar?",
    "What does UnloadModel do?",
    "What is 17 + 25?",
];

/// Longest answer in tokens.
const MAX_TOKENS: u32 = 96;

/// Time that the last telemetry has to be sent.
const FLUSH: Duration = Duration::from_secs(1);

/// Plays the demonstration, then serves until a signal comes, or ends with `--exit`.
///
/// # Errors
///
/// When the server does not start or a step fails.
pub async fn run(mut arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    let screen = Screen::new();
    // Whatever the demonstration writes goes with it, unless a directory was asked for.
    let scratch = tempfile::Builder::new()
        .prefix("hangar-demo-")
        .tempdir()
        .context("no temporary directory")?;
    let layer = &mut arguments.settings.layer;
    layer
        .data_dir
        .get_or_insert_with(|| scratch.path().to_path_buf());
    layer.log.get_or_insert_with(|| "warn".to_owned());
    let signals = Signals::listen()?;
    let (server, telemetry) = start(arguments.settings).await?;
    let played = tokio::select! {
        played = play(&server, &screen) => played.map(|()| true),
        () = signals.terminated() => Ok(false),
    };
    let supervisor = server.supervisor();
    if matches!(played, Ok(true)) && !arguments.exit {
        screen.serving(server.listen());
        tokio::select! {
            () = signals.terminated() => {}
            _ = supervisor.death() => {}
        }
    }
    let orderly = signals.or_second(server.stop()).await;
    telemetry.shutdown(FLUSH).await;
    played?;
    Ok(if supervisor.has_died() {
        ExitCode::from(FAULT)
    } else if orderly == Some(true) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts the server, on free ports if the usual ones are taken and none were asked for.
async fn start(mut arguments: SettingsArguments) -> anyhow::Result<(Server, Telemetry)> {
    let ports = (arguments.layer.listen, arguments.layer.ops_listen);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings::load(arguments.clone())?;
    let telemetry = Telemetry::init(&settings)?;
    match Server::start(&settings, &telemetry).await {
        Err(StartError::Bind { cause, .. }) if cause.kind() == io::ErrorKind::AddrInUse => {
            arguments.layer.listen = ports.0.or(Some(any));
            arguments.layer.ops_listen = ports.1.or(Some(any));
            let settings = Settings::load(arguments)?;
            Ok((Server::start(&settings, &telemetry).await?, telemetry))
        }
        started => Ok((started?, telemetry)),
    }
}

async fn play(server: &Server, screen: &Screen) -> anyhow::Result<()> {
    let client = Client::connect(format!("http://{}", server.listen())).await?;
    screen.greeting(server.listen());
    load(&client, screen).await?;
    inspect(&client, screen).await?;
    ask(&client, screen).await?;
    let unloaded = client.unload(MODEL).send().await?;
    screen.unloaded(&unloaded);
    anyhow::ensure!(came_back(&unloaded), "the worker of the model did not go");
    screen.hints(server.listen());
    Ok(())
}

async fn load(client: &Client, screen: &Screen) -> anyhow::Result<()> {
    screen.step(
        "Load",
        "LoadModel starts a worker process for the model; WatchStatus shows how it gets on.",
    );
    let bar = screen.progress_bar();
    let loaded = client
        .load(MODEL)
        .demo()
        .wait_with(|status| bar.show(status))
        .await;
    bar.finish();
    let loaded = loaded?;
    let state = loaded.status.as_ref().map(|status| status.state());
    anyhow::ensure!(
        state == Some(ModelState::Ready),
        "the model is not ready but {state:?}"
    );
    Ok(())
}

async fn inspect(client: &Client, screen: &Screen) -> anyhow::Result<()> {
    screen.step("Look", "GetInfo tells what the server knows of it.");
    let info = client.info().model(MODEL).send().await?;
    let model: &ModelInfo = info
        .models
        .first()
        .context("GetInfo does not know the model")?;
    screen.model(model);
    Ok(())
}

async fn ask(client: &Client, screen: &Screen) -> anyhow::Result<()> {
    screen.step("Ask", "Generate streams the answers, chunk by chunk.");
    for question in QUESTIONS {
        screen.question(question);
        let request = client
            .generate(MODEL)
            .message("user", *question)
            .temperature(0.0)
            .max_tokens(MAX_TOKENS);
        let mut answer = request.stream().await?;
        while let Some(event) = answer.next().await {
            match event? {
                GenerateEvent::Chunk(chunk) => screen.chunk(&chunk.text),
                GenerateEvent::Done(done) => screen.answered(&done),
            }
        }
    }
    Ok(())
}

fn came_back(unload: &ModelUnload) -> bool {
    unload.was_loaded && unload.host_bytes_freed > 0
}
