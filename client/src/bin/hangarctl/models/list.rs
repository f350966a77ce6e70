//! `hangarctl models list`: what is registered.

use futures::{StreamExt, TryStreamExt};
use hangar_client::{
    Client, ListModels,
    v1::{ListModelsResponse, Model, model_source::Source},
};

use crate::{
    args::models::ListArgs,
    output::{Failure, Writer},
    table::{ago, short, table, trimmed},
};

/// Entries of a page.
const PAGE: u32 = 1000;

pub(super) async fn run(client: &Client, args: ListArgs, writer: &Writer) -> Result<(), Failure> {
    let limit = args.limit.unwrap_or(usize::MAX);
    let stream = request(client, args).stream().take(limit);
    let models: Vec<Model> = stream.try_collect().await?;
    if writer.is_json() {
        let total_size = models.len() as u64;
        let response = ListModelsResponse {
            models,
            total_size,
            ..Default::default()
        };
        return writer.message("hangar.v1.ListModelsResponse", &response);
    }
    if models.is_empty() {
        return writer.line("No such models. `hangarctl models create` registers one.");
    }
    writer.line(&models_table(&models))
}

fn request(client: &Client, args: ListArgs) -> ListModels {
    let mut list = client
        .list_models()
        .page_size(args.limit.map_or(PAGE, |limit| {
            u32::try_from(limit).unwrap_or(PAGE).clamp(1, PAGE)
        }))
        .order_by(args.order.into());
    if args.descending {
        list = list.descending();
    }
    if let Some(source) = args.source {
        list = list.source(source.into());
    }
    if let Some(kind) = args.kind {
        list = list.kind(kind.into());
    }
    args.label
        .into_iter()
        .fold(list, |list, label| list.label(label.key, label.value))
}

fn models_table(models: &[Model]) -> String {
    let mut table = table([
        "MODEL", "ALIASES", "SOURCE", "VERSION", "ORIGIN", "UPDATED", "LABELS",
    ]);
    for model in models {
        let spec = model.spec.clone().unwrap_or_default();
        let labels = spec.labels.iter();
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        table.add_row([
            model.model_id.clone(),
            model.aliases.join(","),
            source(spec.source.and_then(|source| source.source)),
            model.version.to_string(),
            short(model.origin().as_str_name(), "MODEL_ORIGIN_").to_owned(),
            ago(model.update_time.as_ref()),
            labels.join(","),
        ]);
    }
    trimmed(&table)
}

fn source(source: Option<Source>) -> String {
    match source {
        Some(Source::Path(path)) => path,
        Some(Source::HuggingFace(hub)) => format!("hf:{}", hub.repository),
        Some(Source::Demo(_)) => "demo".to_owned(),
        None => String::new(),
    }
}
