//! `hangarctl models`: the catalog.

mod list;

use hangar_client::{
    Client, Freshness,
    v1::{
        CreateModelResponse, DeleteModelResponse, GetModelResponse, Model, ModelSpec,
        UpdateModelResponse,
    },
};

use crate::{
    args::models::{CreateArgs, DeleteArgs, GetArgs, ModelsCommand, UpdateArgs},
    json,
    output::{Failure, Writer},
    spec,
    table::{ago, bytes, fields, short},
};

pub(crate) async fn run(
    client: &Client,
    command: ModelsCommand,
    writer: &Writer,
) -> Result<(), Failure> {
    match command {
        ModelsCommand::List(args) => list::run(client, args, writer).await,
        ModelsCommand::Get(args) => get(client, args, writer).await,
        ModelsCommand::Create(args) => create(client, *args, writer).await,
        ModelsCommand::Update(args) => update(client, *args, writer).await,
        ModelsCommand::Delete(args) => delete(client, args, writer).await,
    }
}

async fn get(client: &Client, args: GetArgs, writer: &Writer) -> Result<(), Failure> {
    let call = client.get_model(&args.model);
    let freshness = match args.if_none_match {
        Some(etag) => call.if_none_match(etag).send().await?,
        None => Freshness::Modified(Box::new(call.send().await?)),
    };
    let model = match freshness {
        Freshness::Modified(model) => Some(*model),
        Freshness::NotModified => None,
    };
    if args.spec_only {
        let Some(spec) = model.and_then(|model| model.spec) else {
            return Ok(());
        };
        return writer.line(&json::to_string("hangar.v1.ModelSpec", &spec, true)?);
    }
    if writer.is_json() {
        let response = GetModelResponse {
            not_modified: model.is_none(),
            model,
        };
        return writer.message("hangar.v1.GetModelResponse", &response);
    }
    match model {
        Some(model) => writer.line(&model_text(&model)?),
        None => Ok(()),
    }
}

async fn create(client: &Client, args: CreateArgs, writer: &Writer) -> Result<(), Failure> {
    let spec = spec::spec_from_args(&args.spec)?.ok_or_else(|| {
        let message = "a model needs a source: --path, --demo, --hugging-face, --spec or --file";
        Failure::Usage(message.to_owned())
    })?;
    let call = client.create_model(&args.model, spec).aliases(args.alias);
    let model = match args.dry_run {
        true => call.validate().await?,
        false => call.send().await?,
    };
    if writer.is_json() {
        let response = CreateModelResponse { model: Some(model) };
        return writer.message("hangar.v1.CreateModelResponse", &response);
    }
    writer.line(&match args.dry_run {
        true => format!("{} can be registered", model.model_id),
        false => format!(
            "{0} is registered; `hangarctl load {0}` loads it",
            model.model_id
        ),
    })
}

async fn update(client: &Client, args: UpdateArgs, writer: &Writer) -> Result<(), Failure> {
    let whole = spec::whole(&args.spec)?;
    let mut edit = client.edit_model(&args.model);
    if let Some(etag) = &args.etag {
        edit = edit.etag(etag);
    }
    let edited = edit
        .send(|model| change(model, whole.clone(), &args))
        .await?;
    let is_changed = edited.is_some();
    let response = match edited {
        Some(response) => response,
        None => UpdateModelResponse {
            model: Some(client.get_model(&args.model).send().await?),
            ..Default::default()
        },
    };
    if writer.is_json() {
        return writer.message("hangar.v1.UpdateModelResponse", &response);
    }
    let Model {
        model_id, version, ..
    } = response.model.unwrap_or_default();
    let mut text = match is_changed {
        true => format!("{model_id} is at version {version}"),
        false => format!("{model_id} is so already, at version {version}"),
    };
    if response.reload_required {
        text += &format!("; `hangarctl load {model_id} --force-reload` makes all of it hold");
    }
    writer.line(&text)
}

/// Makes the changes that the arguments ask for, on the `whole` spec that they give or that of the model.
fn change(model: &mut Model, whole: Option<ModelSpec>, args: &UpdateArgs) {
    let mut spec = whole.or_else(|| model.spec.take()).unwrap_or_default();
    args.spec.apply(&mut spec);
    for key in &args.remove_label {
        spec.labels.remove(key);
    }
    model.spec = Some(spec);
    model
        .aliases
        .retain(|alias| !args.remove_alias.contains(alias));
    for alias in &args.alias {
        if !model.aliases.contains(alias) {
            model.aliases.push(alias.clone());
        }
    }
}

async fn delete(client: &Client, args: DeleteArgs, writer: &Writer) -> Result<(), Failure> {
    let mut call = client.delete_model(&args.model);
    if let Some(etag) = args.etag {
        call = call.etag(etag);
    }
    if args.force {
        call = call.force();
    }
    let unload = call.send().await?;
    if writer.is_json() {
        let response = DeleteModelResponse { unload };
        return writer.message("hangar.v1.DeleteModelResponse", &response);
    }
    let mut text = format!("{} is deleted", args.model);
    if let Some(unload) = unload {
        let freed = bytes(unload.host_bytes_freed + unload.device_bytes_freed);
        text += &format!("; unloading it gave {freed} back");
    }
    writer.line(&text)
}

fn model_text(model: &Model) -> Result<String, Failure> {
    let spec = model.spec.clone().unwrap_or_default();
    let head = fields([
        ("Model", model.model_id.clone()),
        ("Aliases", model.aliases.join(", ")),
        (
            "Origin",
            short(model.origin().as_str_name(), "MODEL_ORIGIN_").to_owned(),
        ),
        ("Version", model.version.to_string()),
        ("Etag", model.etag.clone()),
        ("Created", ago(model.create_time.as_ref())),
        ("Updated", ago(model.update_time.as_ref())),
    ]);
    let spec = json::to_string("hangar.v1.ModelSpec", &spec, true)?;
    Ok(format!("{head}\n\n{spec}"))
}
