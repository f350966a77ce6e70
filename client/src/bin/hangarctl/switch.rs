//! `hangarctl switch`: points an alias at another model.

use hangar_client::{
    Client, Switch,
    v1::{SwitchInfo, SwitchModelResponse},
};

use crate::{
    args::switch::SwitchArgs,
    output::{Failure, Writer},
    progress::LoadBar,
    spec,
    table::{between, duration_text_of, short},
};

pub(crate) async fn run(client: &Client, args: SwitchArgs, writer: &Writer) -> Result<(), Failure> {
    let switch = request(client, &args)?;
    if args.dry_run {
        let answer = switch.validate().await?;
        return print(&args, "would go", &answer, writer);
    }
    let switching = switch.start().await?;
    if !args.wait {
        return print(&args, "has begun", switching.response(), writer);
    }
    let switch = if writer.is_json() {
        switching.wait().await?
    } else {
        let mut bar = LoadBar::new(&args.model);
        switching.wait_with(|status| bar.show(status)).await?
    };
    if writer.is_json() {
        return writer.message("hangar.v1.SwitchInfo", &switch);
    }
    writer.line(&sentence(&switch))
}

fn request(client: &Client, args: &SwitchArgs) -> Result<Switch, Failure> {
    let mut switch = client
        .switch(&args.alias, &args.model)
        .strategy(args.strategy.into());
    if let Some(spec) = spec::spec_from_args(&args.spec)? {
        switch = switch.spec(spec);
    }
    if let Some(timeout) = args.drain_timeout {
        switch = switch.drain_timeout(timeout);
    }
    if let Some(timeout) = args.timeout {
        switch = switch.timeout(timeout);
    }
    Ok(switch)
}

fn print(
    args: &SwitchArgs,
    what: &str,
    answer: &SwitchModelResponse,
    writer: &Writer,
) -> Result<(), Failure> {
    if writer.is_json() {
        return writer.message("hangar.v1.SwitchModelResponse", answer);
    }
    let strategy = short(answer.strategy().as_str_name(), "SWITCH_STRATEGY_");
    let mut text = format!(
        "The switch of {} to {} {what} ({strategy})",
        args.alias, args.model
    );
    match duration_text_of(answer.estimated_time.as_ref()) {
        time if time.is_empty() => {}
        time => text += &format!("; it takes about {time}"),
    }
    if !args.dry_run {
        text += ". `hangarctl info` tells how it ends";
    }
    writer.line(&text)
}

fn sentence(switch: &SwitchInfo) -> String {
    let SwitchInfo {
        alias,
        from_model_id,
        to_model_id,
        ..
    } = switch;
    let mut text = format!("{alias} points at {to_model_id}");
    if !from_model_id.is_empty() && from_model_id != to_model_id {
        text += &format!(" instead of {from_model_id}");
    }
    match between(switch.start_time.as_ref(), switch.end_time.as_ref()) {
        time if time.is_empty() => text,
        time => format!("{text} after {time}"),
    }
}
