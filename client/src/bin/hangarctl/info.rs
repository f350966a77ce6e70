//! `hangarctl info`: the server and its models.

mod machine;
mod metrics;
mod notes;
mod switches;

use hangar_client::{
    Client,
    v1::{GetInfoResponse, ModelInfo, ModelMetadata, ModelStatus, ServerInfo, SystemInfo},
};

use crate::{
    args::InfoArgs,
    output::{Failure, Writer},
    table::{
        Field, ago, bytes, duration_text_of, fields, percent, progress, short, state, table,
        trimmed, unless_zero,
    },
};

pub(crate) async fn run(client: &Client, args: InfoArgs, writer: &Writer) -> Result<(), Failure> {
    let is_about_one = args.model.is_some();
    let mut call = client.info().metrics();
    if let Some(model) = args.model {
        call = call.model(model);
    }
    let info = call.send().await?;
    if writer.is_json() {
        return writer.message("hangar.v1.GetInfoResponse", &info);
    }
    if is_about_one {
        return info
            .models
            .iter()
            .try_for_each(|model| writer.line(&model_text(model)));
    }
    writer.line(&server_text(&info))
}

fn server_text(info: &GetInfoResponse) -> String {
    let server = info.server.clone().unwrap_or_default();
    let system = info.system.clone().unwrap_or_default();
    let mut text = server_fields(&server, &system);
    for device in &info.devices {
        text += &format!("\n{}", machine::device(device));
    }
    if let Some(cache) = &info.cache {
        text += &format!("\n{}", machine::cache(cache));
    }
    if info.models.is_empty() {
        return text + "\n\nNo models. `hangarctl load demo --demo` loads the built-in one.";
    }
    text += &format!("\n\n{}", models_table(&info.models));
    if info.truncated {
        text += "\nThere are more models than these: `hangarctl models list` has them all.";
    }
    if !info.switches.is_empty() {
        text += &format!("\n\n{}", switches::switches_table(&info.switches));
    }
    text
}

fn server_fields(server: &ServerInfo, system: &SystemInfo) -> String {
    let usage = system
        .cpu_usage
        .map(|usage| format!(", {} in use", percent(usage)))
        .unwrap_or_default();
    fields([
        (
            "Server",
            [server.version.as_str(), &server.commit]
                .join(" ")
                .trim_end()
                .to_owned(),
        ),
        (
            "Engine",
            [server.engine.as_str(), &server.engine_version]
                .join(" ")
                .trim()
                .to_owned(),
        ),
        ("Kernels", server.engine_kernels.clone()),
        ("Uptime", duration_text_of(server.uptime.as_ref())),
        ("Platform", system.platform.clone()),
        ("CPU", format!("{} cores{usage}", system.cpu_cores)),
        (
            "Memory",
            format!(
                "{} available of {}, models hold {}, the server {}",
                bytes(system.memory_available_bytes),
                bytes(system.memory_total_bytes),
                bytes(system.memory_models_bytes),
                bytes(system.memory_server_bytes)
            ),
        ),
        (
            "Disk",
            format!(
                "{} free of {}",
                bytes(system.disk_available_bytes),
                bytes(system.disk_total_bytes)
            ),
        ),
    ])
}

fn models_table(models: &[ModelInfo]) -> String {
    let mut table = table([
        "MODEL",
        "ALIASES",
        "STATE",
        "PARAMETERS",
        "DTYPE",
        "CONTEXT",
        "MEMORY",
        "RUNNING",
        "WAITING",
        "SINCE",
        "NOTES",
    ]);
    for model in models {
        let status = model.status.clone().unwrap_or_default();
        let metadata = model.metadata.clone().unwrap_or_default();
        table.add_row([
            model.model_id.clone(),
            model.aliases.join(","),
            state_text(&status),
            parameters(&metadata),
            short(metadata.dtype().as_str_name(), "DATA_TYPE_").to_owned(),
            unless_zero(metadata.context_length.into()),
            memory(&status),
            status.in_flight.to_string(),
            status.queued.to_string(),
            ago(status.since.as_ref()),
            notes::notes(model),
        ]);
    }
    trimmed(&table)
}

fn model_text(model: &ModelInfo) -> String {
    let status = model.status.clone().unwrap_or_default();
    let metadata = model.metadata.clone().unwrap_or_default();
    let metrics = model.metrics.as_ref().map(metrics::metrics_fields);
    let all = general_fields(model, &status)
        .into_iter()
        .chain(metadata_fields(&metadata))
        .chain(metrics.into_iter().flatten());
    let mut text = fields(all);
    for load in &model.recent_loads {
        let outcome = short(load.outcome().as_str_name(), "LOAD_OUTCOME_");
        let began = ago(load.start_time.as_ref());
        text += &format!(
            "\n Load {} {outcome} {} (began {began})",
            load.load_id, load.reason
        );
    }
    text
}

fn general_fields(model: &ModelInfo, status: &ModelStatus) -> [Field; 19] {
    [
        ("Model", model.model_id.clone()),
        ("Aliases", model.aliases.join(", ")),
        ("State", state_text(status)),
        ("Since", ago(status.since.as_ref())),
        ("Reason", status.reason.clone()),
        ("Message", status.message.clone()),
        (
            "Progress",
            status.progress.as_ref().map(progress).unwrap_or_default(),
        ),
        (
            "Desired",
            short(model.desired_state().as_str_name(), "DESIRED_STATE_").to_owned(),
        ),
        (
            "Suspended",
            short(model.suspend_reason().as_str_name(), "SUSPEND_REASON_").to_owned(),
        ),
        ("Held by", model.holders.join(", ")),
        ("Version", unless_zero(model.version)),
        ("Etag", model.etag.clone()),
        (
            "Reload",
            match (model.reload_required, model.reload_reason.as_str()) {
                (true, "") => "required for all of the spec to hold".to_owned(),
                (true, reason) => format!("required: {reason}"),
                (false, _) => String::new(),
            },
        ),
        (
            "Learned",
            model
                .learned
                .as_ref()
                .map(notes::learned)
                .unwrap_or_default(),
        ),
        ("Worker", unless_zero(status.worker_pid.into())),
        ("Memory", memory(status)),
        ("Load", status.load_id.clone()),
        ("Attempt", unless_zero(status.attempt.into())),
        ("Restarts", unless_zero(status.restarts)),
    ]
}

/// What conversations with the model may have.
fn conversation_support(metadata: &ModelMetadata) -> String {
    let Some(known) = &metadata.conversation else {
        return String::new();
    };
    let all = [
        ("messages", &known.messages),
        ("tools", &known.tools),
        ("images", &known.images),
        ("thinking", &known.thinking),
    ];
    let taken = all
        .into_iter()
        .filter(|(_, it)| it.as_ref().is_some_and(|it| it.supported));
    taken.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

fn metadata_fields(metadata: &ModelMetadata) -> [Field; 19] {
    [
        ("Architecture", metadata.architecture.clone()),
        ("Name", metadata.model_name.clone()),
        ("Base", metadata.base_model.clone()),
        ("Adapters", adapters(metadata)),
        (
            "Kind",
            short(metadata.kind().as_str_name(), "MODEL_KIND_").to_owned(),
        ),
        ("Parameters", parameters(metadata)),
        (
            "Data type",
            short(metadata.dtype().as_str_name(), "DATA_TYPE_").to_owned(),
        ),
        ("Quantization", metadata.quantization.clone()),
        ("Takes", conversation_support(metadata)),
        ("Context", unless_zero(metadata.context_length.into())),
        ("Vocabulary", unless_zero(metadata.vocabulary_size.into())),
        ("Vectors of", unless_zero(metadata.embedding_size.into())),
        (
            "Format",
            short(metadata.format().as_str_name(), "MODEL_FORMAT_").to_owned(),
        ),
        ("Source", metadata.source.clone()),
        (
            "Size",
            if metadata.size_bytes == 0 {
                String::new()
            } else {
                bytes(metadata.size_bytes)
            },
        ),
        ("Device", metadata.device.clone()),
        (
            "Load time",
            duration_text_of(metadata.load_duration.as_ref()),
        ),
        ("Loaded", ago(metadata.loaded_time.as_ref())),
        ("Last used", ago(metadata.last_used_time.as_ref())),
    ]
}

/// Names of the adapters with their rank, for example "radio (LoRA, rank 4)".
fn adapters(metadata: &ModelMetadata) -> String {
    match metadata.is_lora {
        true => format!(
            "{} (LoRA, rank {})",
            metadata.adapters.join(", "),
            metadata.lora_rank
        ),
        false => String::new(),
    }
}

fn state_text(status: &ModelStatus) -> String {
    match &status.progress {
        Some(progress) => format!("{} {}", state(status), percent(progress.fraction)),
        None => state(status).to_owned(),
    }
}

fn memory(status: &ModelStatus) -> String {
    let Some(memory) = &status.memory else {
        return String::new();
    };
    match memory.device_bytes {
        0 => bytes(memory.host_bytes),
        device => format!("{} + {} device", bytes(memory.host_bytes), bytes(device)),
    }
}

/// Number of weights, for example "1.2M".
fn parameters(metadata: &ModelMetadata) -> String {
    #[allow(clippy::cast_precision_loss)]
    let count = metadata.parameter_count as f64;
    match metadata.parameter_count {
        0 => String::new(),
        1..1_000 => format!("{count}"),
        1_000..1_000_000 => format!("{:.1}K", count / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", count / 1e6),
        _ => format!("{:.1}B", count / 1e9),
    }
}
