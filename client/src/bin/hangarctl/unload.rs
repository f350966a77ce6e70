//! `hangarctl unload`: stops models.

use hangar_client::{
    Client, Error,
    v1::{ModelUnload, UnloadModelResponse},
};

use crate::{
    args::UnloadArgs,
    output::{Failure, Writer},
    table::{bytes, duration_text_of, short},
};

pub(crate) async fn run(client: &Client, args: UnloadArgs, writer: &Writer) -> Result<(), Failure> {
    let response = match args.model {
        Some(model) => {
            let mut unload = client.unload(model);
            if args.force {
                unload = unload.force();
            }
            if let Some(timeout) = args.drain_timeout {
                unload = unload.drain_timeout(timeout);
            }
            if let Some(session) = args.session {
                unload = unload.session(session);
            }
            UnloadModelResponse {
                unloads: vec![unload.send().await?],
                ..Default::default()
            }
        }
        None => all(client, args).await?,
    };
    write(&response, writer)
}

async fn all(client: &Client, args: UnloadArgs) -> Result<UnloadModelResponse, Failure> {
    let mut unload = client.unload_all();
    if args.force {
        unload = unload.force();
    }
    if let Some(timeout) = args.drain_timeout {
        unload = unload.drain_timeout(timeout);
    }
    Ok(unload.send().await?)
}

fn write(response: &UnloadModelResponse, writer: &Writer) -> Result<(), Failure> {
    if writer.is_json() {
        writer.message("hangar.v1.UnloadModelResponse", response)?;
    } else {
        response
            .unloads
            .iter()
            .try_for_each(|unload| writer.line(&sentence(unload)))?;
        if response.unloads.is_empty() {
            writer.line("There is nothing to unload.")?;
        }
        if !response.models_remaining.is_empty() {
            writer.line(&format!(
                "Still loaded: {}",
                response.models_remaining.join(", ")
            ))?;
        }
    }
    match response
        .unloads
        .iter()
        .filter(|unload| unload.error.is_some())
        .count()
    {
        0 => Ok(()),
        failed => Err(Failure::Message(format!(
            "{failed} of {} unloads failed",
            response.unloads.len()
        ))),
    }
}

fn sentence(unload: &ModelUnload) -> String {
    let model = &unload.model_id;
    if let Some(status) = &unload.error {
        return format!("{model} was not unloaded: {}", Error::from(status.clone()));
    }
    if !unload.was_loaded {
        return format!("{model} was not loaded");
    }
    let mut text = format!(
        "{model} is unloaded: {} of memory",
        bytes(unload.host_bytes_freed)
    );
    if unload.device_bytes_freed > 0 {
        text += &format!(" and {} of device memory", bytes(unload.device_bytes_freed));
    }
    let verification = short(unload.verification().as_str_name(), "UNLOAD_VERIFICATION_");
    text += &format!(
        " came back ({verification}) in {}",
        duration_text_of(unload.elapsed.as_ref())
    );
    if unload.killed {
        text += "; its worker had to be killed";
    }
    text
}
