//! `hangar demo`: plays the main job against the server's own public API, for a person to watch or a script to run.

mod screen;

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use hangar_client::{
    Client, GenerateEvent,
    v1::{ModelInfo, ModelState, ModelUnload, UnloadVerification},
};
use screen::Screen;

use crate::{
    config::{DemoArguments, Settings, SettingsArguments},
    server::{Server, StartError},
    signal::Signals,
    supervisor::FAULT,
    telemetry::Telemetry,
};

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

/// Plays the demonstration. Then serves until a signal comes, with `--serve` or where somebody sits at a terminal
/// who can send one; else ends, with the status 0 if every step did what it says, and with [`FAULT`] where a task of the
/// server died.
///
/// # Errors
///
/// When the server does not start or a step fails.
pub async fn run(mut arguments: DemoArguments) -> anyhow::Result<u8> {
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
    let serves_on = arguments.serve || (!arguments.exit && io::stdin().is_terminal());
    let signals = Signals::listen()?;
    let (server, telemetry) = tokio::select! {
        started = start(arguments.settings) => started?,
        () = signals.terminated() => anyhow::bail!("ended before its first step"),
    };
    let supervisor = server.supervisor();
    let played = tokio::select! {
        played = play(&server, &screen) => played,
        () = signals.terminated() => Err(anyhow::anyhow!("ended before its last step")),
        failure = supervisor.failure() => Err(anyhow::anyhow!("{failure}")),
    };
    if played.is_ok() {
        screen.played();
        if serves_on {
            screen.serving(server.listen());
            tokio::select! {
                () = signals.terminated() => {}
                _ = supervisor.failure() => {}
            }
        }
    }
    let orderly = signals.or_second(server.stop()).await;
    telemetry.shutdown(FLUSH).await;
    if supervisor.has_failed() {
        // Whatever became of the steps, it is why.
        return Ok(FAULT);
    }
    played?;
    Ok(u8::from(orderly != Some(true)))
}

/// Starts the server, on free ports if the usual ones are taken and none were asked for.
async fn start(mut arguments: SettingsArguments) -> anyhow::Result<(Server, Arc<Telemetry>)> {
    let ports = (arguments.layer.listen, arguments.layer.ops_listen);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings::load(arguments.clone())?;
    let telemetry = Arc::new(Telemetry::init(&settings)?);
    let server = match Server::start(settings, telemetry.clone()).await {
        Err(StartError::Bind { cause, .. }) if cause.kind() == io::ErrorKind::AddrInUse => {
            arguments.layer.listen = ports.0.or(Some(any));
            arguments.layer.ops_listen = ports.1.or(Some(any));
            Server::start(Settings::load(arguments)?, telemetry.clone()).await?
        }
        started => started?,
    };
    server.begin_loads().await?;
    Ok((server, telemetry))
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
    let state = model.status.as_ref().map(|status| status.state());
    anyhow::ensure!(
        state == Some(ModelState::Ready),
        "GetInfo does not tell that the model is ready but {state:?}"
    );
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
        let mut tokens = None;
        while let Some(event) = answer.next().await {
            match event? {
                GenerateEvent::Chunk(chunk) => screen.chunk(&chunk.text),
                GenerateEvent::Done(done) => {
                    screen.answered(&done);
                    tokens = done.usage.map(|usage| usage.completion_tokens);
                }
            }
        }
        anyhow::ensure!(tokens > Some(0), "the model did not answer {question:?}");
    }
    Ok(())
}

fn came_back(unload: &ModelUnload) -> bool {
    let verified = !matches!(
        unload.verification(),
        UnloadVerification::Unspecified | UnloadVerification::TimedOut
    );
    unload.was_loaded && unload.host_bytes_freed > 0 && verified
}
