//! `hangarctl load`: makes models ready.

use hangar_client::{
    Client, Error, Load,
    v1::{DemoSource, LoadModelResponse, ModelLoad, ModelSource, ModelSpec, model_source::Source},
};

use crate::{
    args::LoadArgs,
    json,
    output::{Failure, Writer},
    progress::LoadBar,
    table::{progress, span_of, state, table, trimmed},
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
        failed => Err(Failure::Said(format!(
            "{failed} of {} loads failed",
            response.loads.len()
        ))),
    }
}

fn request(client: &Client, model: &str, args: &LoadArgs) -> Result<Load, Failure> {
    let mut load = client.load(model);
    if let Some(spec) = spec(args)? {
        load = load.spec(spec);
    }
    if let Some(timeout) = args.timeout {
        load = load.timeout(timeout);
    }
    if args.force_reload {
        load = load.force_reload();
    }
    Ok(load)
}

/// The spec that the arguments describe. `None`: none of them does.
fn spec(args: &LoadArgs) -> Result<Option<ModelSpec>, Failure> {
    let mut spec = match &args.spec {
        Some(json) => json::from_str("hangar.v1.ModelSpec", json)?,
        None => ModelSpec::default(),
    };
    if let Some(path) = &args.path {
        spec.source = Some(ModelSource {
            source: Some(Source::Path(path.clone())),
        });
    }
    if args.demo {
        spec.source = Some(ModelSource {
            source: Some(Source::Demo(DemoSource {})),
        });
    }
    if let Some(dtype) = args.dtype {
        spec.set_dtype(dtype.into());
    }
    spec.context_length = args.context_length.unwrap_or(spec.context_length);
    spec.max_concurrency = args.max_concurrency.unwrap_or(spec.max_concurrency);
    spec.max_queue = args.max_queue.or(spec.max_queue);
    if spec == ModelSpec::default() {
        return Ok(None);
    }
    if spec.source.is_none() {
        let message = "settings of a model need its source too: --path, --demo or --spec";
        return Err(Failure::Usage(message.to_owned()));
    }
    Ok(Some(spec))
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
    match span_of(load.estimated_load_time.as_ref()) {
        time if time.is_empty() || load.already_loaded => text,
        time => format!("{text}; a load takes about {time}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(arguments: &[&str]) -> Result<Option<ModelSpec>, Failure> {
        let cli = Cli::parse_from(["hangarctl", "load"].iter().chain(arguments));
        match cli.command {
            Command::Load(args) => spec(&args),
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_known_model_needs_no_spec() {
        assert!(matches!(parsed(&["m", "--no-wait"]), Ok(None)));
    }

    #[test]
    fn settings_need_a_source() {
        assert!(matches!(
            parsed(&["m", "--dtype", "f16"]),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn settings_change_a_given_spec() {
        let arguments = [
            "m",
            "--spec",
            r#"{"source":{"path":"/m"},"contextLength":5}"#,
            "--context-length",
            "6",
        ];
        let Ok(Some(spec)) = parsed(&arguments) else {
            panic!("no spec")
        };
        assert_eq!(spec.context_length, 6);
        assert!(spec.source.is_some());
    }
}
