//! Registers two versions of a model, labels them, and moves an alias from one to the other while it
//! may be in use.
//!
//! Needs a running server:
//! `cargo run --release --example catalog_and_switch -- http://127.0.0.1:50051 /models/old /models/new`

use std::{env, error::Error};

use hangar_client::{
    Client, Error as Failure,
    v1::{ErrorReason, ModelSource, ModelSpec, model_source::Source},
};

const ALIAS: &str = "chat";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, server, old, new] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("give the server, the old model's path and the new one's".into());
    };
    let client = Client::connect(server.as_str()).await?;

    register(&client, "chat-1", old).await?;
    register(&client, "chat-2", new).await?;
    let mut models = client.list_models().label("app", "chat").stream();
    while let Some(model) = models.next().await {
        let model = model?;
        eprintln!(
            "{} version {} {}",
            model.model_id, model.version, model.etag
        );
    }

    switch(&client, "chat-1").await?;
    // A change of this kind holds from the next request on; others say that they need a reload.
    let edited = client.edit_model(ALIAS).send(|model| {
        let spec = model.spec.get_or_insert_default();
        spec.generation_defaults.get_or_insert_default().max_tokens = 64;
    });
    let needs_reload = edited
        .await?
        .is_some_and(|response| response.reload_required);
    eprintln!("reload required: {needs_reload}");
    switch(&client, "chat-2").await?;
    Ok(())
}

/// Registers a model; one that is registered already is left as it is.
async fn register(client: &Client, model_id: &str, path: &str) -> Result<(), Failure> {
    let source = ModelSource {
        source: Some(Source::Path(path.to_owned())),
    };
    let mut spec = ModelSpec {
        source: Some(source),
        ..Default::default()
    };
    spec.labels.insert("app".to_owned(), "chat".to_owned());
    match client.create_model(model_id, spec).send().await {
        Err(error) if error.reason() == Some(ErrorReason::ModelExists) => Ok(()),
        result => result.map(drop),
    }
}

async fn switch(client: &Client, model_id: &str) -> Result<(), Failure> {
    let switch = client.switch(ALIAS, model_id).wait_with(|status| {
        eprintln!("{} {:?}", status.model_id, status.state());
    });
    match switch.await {
        Ok(switch) => eprintln!("{} points at {}", switch.alias, switch.to_model_id),
        // Whoever uses the alias has noticed nothing.
        Err(Failure::Switch(failure)) if failure.old_serves() => eprintln!("{failure}"),
        Err(error) => return Err(error),
    }
    Ok(())
}
