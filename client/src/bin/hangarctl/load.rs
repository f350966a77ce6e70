//! `hangarctl load`: makes models ready.

use hangar_client::{
    Client, Error, Load,
    v1::{LoadModelResponse, ModelLoad},
};

use crate::{
    args::{LoadArgs, spec::SpecArgs},
    output::{Failure, Writer},
    progress::LoadBar,
    spec,
    table::{duration_text_of, progress, state, table, trimmed},
};

pub(crate) async fn run(
    client: &Client,
    mut args: LoadArgs,
    writer: &Writer,
) -> Result<(), Failure> {
    let Some(model) = args.model.take() else {
        return run_all(client, &args, writer).await;
    };
    let load = request(client, &model, &args)?;
    let loaded = if args.no_wait {
        load.send().await?
    } else if writer.is_json() {
        load.wait().await?
    } else {
        let mut bar = LoadBar::new(&model);
        load.wait_with(|status| bar.show(status)).await?
    };
    if writer.is_json() {
        let response = LoadModelResponse {
            loads: vec![loaded],
        };
        return writer.message("hangar.v1.LoadModelResponse", &response);
    }
    writer.line(&sentence(&loaded))
}

async fn run_all(client: &Client, args: &LoadArgs, writer: &Writer) -> Result<(), Failure> {
    if args.spec != SpecArgs::default() {
        let message =
            "--all loads models as they are registered; `hangarctl models update` changes one";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut load = client.load_all();
    if let Some(timeout) = args.timeout {
        load = load.timeout(timeout);
    }
    let response = if args.no_wait {
        load.send().await?
    } else {
        load.wait().await?
    };
    if writer.is_json() {
        writer.message("hangar.v1.LoadModelResponse", &response)?;
    } else {
        let mut table = table(["MODEL", "STATE", "ERROR"]);
        for load in &response.loads {
            let error = load
                .error
                .clone()
                .map(|status| Error::from(status).to_string());
            let state = load.status.as_ref().map_or("", state);
            table.add_row([&load.model_id, state, error.as_deref().unwrap_or_default()]);
        }
        writer.line(&trimmed(&table))?;
    }
    match response
        .loads
        .iter()
        .filter(|load| load.error.is_some())
        .count()
    {
        0 => Ok(()),
        failed => Err(Failure::Message(format!(
            "{failed} of {} loads failed",
            response.loads.len()
        ))),
    }
}

fn request(client: &Client, model: &str, args: &LoadArgs) -> Result<Load, Failure> {
    let mut load = client.load(model);
    if let Some(spec) = spec::spec_from_args(&args.spec)? {
        load = load.spec(spec);
    }
    if let Some(session) = &args.session {
        load = load.session(session);
    }
    if let Some(timeout) = args.timeout {
        load = load.timeout(timeout);
    }
    if args.force_reload {
        load = load.force_reload();
    }
    Ok(load)
}

fn sentence(load: &ModelLoad) -> String {
    let status = load.status.clone().unwrap_or_default();
    let mut text = format!("{} is {}", load.model_id, state(&status));
    if load.already_loaded {
        text += " already";
    }
    if let Some(known) = &status.progress {
        text += &format!(" ({})", progress(known));
    }
    match duration_text_of(load.estimated_load_time.as_ref()) {
        time if time.is_empty() || load.already_loaded => text,
        time => format!("{text}; a load takes about {time}"),
    }
}
