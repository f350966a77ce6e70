//! `hangarctl watch`: follows the status of models.

use std::time::SystemTime;

use hangar_client::{
    Client, Watch, WatchEvent,
    v1::{
        ChangeKind, ModelChanged, ModelRemoved, ModelStatus, StatusSnapshot, SwitchChanged,
        SwitchInfo, SwitchOutcome, WatchHeartbeat, WatchStatusResponse,
        watch_status_response::Event,
    },
};

use crate::{
    args::WatchArgs,
    output::{Failure, Writer},
    table::{bytes, progress, short, state},
};

pub(crate) async fn run(client: &Client, args: WatchArgs, writer: &Writer) -> Result<(), Failure> {
    let mut builder = client.watch().models(args.models);
    if let Some(interval) = args.progress_interval {
        builder = builder.progress_interval(interval);
    }
    if let Some(token) = args.resume_token {
        builder = builder.resume_token(token);
    }
    let mut watch = builder.stream();
    while let Some(event) = watch.next().await {
        write(event?, &watch, writer)?;
    }
    Ok(())
}

fn write(event: WatchEvent, watch: &Watch, writer: &Writer) -> Result<(), Failure> {
    if let WatchEvent::Disconnected { error, retry_in } = &event {
        eprintln!("disconnected, trying again in {retry_in:.1?}: {error}");
        return Ok(());
    }
    if !writer.is_json() {
        return lines(&event).iter().try_for_each(|line| writer.line(line));
    }
    let Some(event) = message(event) else {
        return Ok(());
    };
    let response = WatchStatusResponse {
        resume_token: watch.resume_token().to_owned(),
        event: Some(event),
    };
    writer.message_line("hangar.v1.WatchStatusResponse", &response)
}

/// The event as the server's message; a snapshot in one part.
fn message(event: WatchEvent) -> Option<Event> {
    let change = |kind: ChangeKind, revision, status| {
        let kind = kind.into();
        Event::Changed(ModelChanged {
            revision,
            kind,
            status: Some(status),
            ..Default::default()
        })
    };
    Some(match event {
        WatchEvent::Snapshot { models, reset } => Event::Snapshot(StatusSnapshot {
            models,
            reset,
            complete: true,
        }),
        WatchEvent::Transition { revision, status } => {
            change(ChangeKind::Transition, revision, status)
        }
        WatchEvent::Progress { status } => change(ChangeKind::Progress, 0, status),
        WatchEvent::Changed(changed) => Event::Changed(*changed),
        WatchEvent::Removed { revision, model_id } => {
            Event::Removed(ModelRemoved { model_id, revision })
        }
        WatchEvent::Switched { revision, switch } => Event::Switched(SwitchChanged {
            revision,
            switch: Some(*switch),
        }),
        WatchEvent::Heartbeat { time } => Event::Heartbeat(WatchHeartbeat {
            time: time.map(Into::into),
        }),
        _ => return None,
    })
}

fn lines(event: &WatchEvent) -> Vec<String> {
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    let line = |text: String| format!("{now}  {text}");
    match event {
        WatchEvent::Snapshot { models, reset } => {
            let what = if *reset { "reset" } else { "snapshot" };
            let head = line(format!("{what}: {} models", models.len()));
            std::iter::once(head)
                .chain(models.iter().map(|status| line(status_text(status))))
                .collect()
        }
        WatchEvent::Transition { status, .. } | WatchEvent::Progress { status } => {
            vec![line(status_text(status))]
        }
        WatchEvent::Changed(changed) => {
            let model = changed
                .status
                .as_ref()
                .map_or("", |status| &status.model_id);
            let what = short(changed.kind().as_str_name(), "CHANGE_KIND_");
            let detail = match changed.kind() {
                ChangeKind::Spec => format!("version {}", changed.version),
                ChangeKind::Aliases => changed.aliases.join(", "),
                _ => String::new(),
            };
            let text = format!("{model}  changed: {what} {detail}");
            vec![line(text.trim_end().to_owned())]
        }
        WatchEvent::Removed { model_id, .. } => vec![line(format!("{model_id}  removed"))],
        WatchEvent::Switched { switch, .. } => vec![line(switched(switch))],
        _ => Vec::new(),
    }
}

fn switched(switch: &SwitchInfo) -> String {
    let what = match switch.outcome() {
        SwitchOutcome::Unspecified => "switching",
        SwitchOutcome::Succeeded => "switched",
        SwitchOutcome::RolledBack => "rolled back",
        SwitchOutcome::RollbackFailed => "rollback failed",
    };
    let SwitchInfo {
        alias,
        from_model_id,
        to_model_id,
        message,
        ..
    } = switch;
    let mut text = format!("{alias}  {what}: {from_model_id} to {to_model_id}");
    if !message.is_empty() {
        text += &format!("  {message}");
    }
    text
}

fn status_text(status: &ModelStatus) -> String {
    let mut text = format!("{}  {}", status.model_id, state(status));
    if let Some(known) = &status.progress {
        text += &format!("  {}", progress(known));
    }
    if let Some(memory) = &status.memory {
        text += &format!("  {}", bytes(memory.host_bytes + memory.device_bytes));
    }
    if !status.reason.is_empty() {
        text += &format!("  {}: {}", status.reason, status.message);
    }
    text
}
