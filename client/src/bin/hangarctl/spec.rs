//! The spec that arguments describe.

use std::{fs, io, path::Path};

use hangar_client::v1::ModelSpec;

use crate::{args::spec::SpecArgs, json, output::Failure};

const NAME: &str = "hangar.v1.ModelSpec";

/// The spec that the arguments describe. `None`: none of them does.
pub(crate) fn spec_from_args(args: &SpecArgs) -> Result<Option<ModelSpec>, Failure> {
    let mut spec = whole(args)?.unwrap_or_default();
    args.apply(&mut spec);
    if spec == ModelSpec::default() {
        return Ok(None);
    }
    if spec.source.is_none() {
        let message = "settings of a model need its source too: --path, --demo, --hugging-face, \
                       --spec or --file";
        return Err(Failure::Usage(message.to_owned()));
    }
    Ok(Some(spec))
}

/// The spec that `--spec` or `--file` gives.
pub(crate) fn whole(args: &SpecArgs) -> Result<Option<ModelSpec>, Failure> {
    match (&args.spec, &args.file) {
        (Some(json), _) => Ok(Some(json::from_str(NAME, json)?)),
        (None, Some(path)) => Ok(Some(read(path)?)),
        (None, None) => Ok(None),
    }
}

/// Reads a file as TOML if it is named so, else as JSON; standard input as JSON if it begins like it.
fn read(path: &Path) -> Result<ModelSpec, Failure> {
    let is_stdin = path == Path::new("-");
    let text = match is_stdin {
        true => io::read_to_string(io::stdin()),
        false => fs::read_to_string(path),
    };
    let text = text.map_err(|error| {
        Failure::Usage(format!(
            "cannot read the spec from {}: {error}",
            path.display()
        ))
    })?;
    let is_toml = match path.extension() {
        Some(extension) => extension == "toml",
        None => !text.trim_start().starts_with('{'),
    };
    let spec = match is_toml {
        true => json::from_toml(NAME, &text),
        false => json::from_str(NAME, &text),
    };
    spec.map_err(|failure| match failure {
        Failure::Usage(message) => Failure::Usage(format!("{}: {message}", path.display())),
        failure => failure,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use hangar_client::v1::{HuggingFaceSource, RestartMode, model_source::Source};

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(arguments: &[&str]) -> Result<Option<ModelSpec>, Failure> {
        let cli = Cli::parse_from(["hangarctl", "load"].iter().chain(arguments));
        match cli.command {
            Command::Load(args) => spec_from_args(&args.spec),
            _ => unreachable!(),
        }
    }

    fn spec(arguments: &[&str]) -> ModelSpec {
        match parsed(arguments) {
            Ok(Some(spec)) => spec,
            _ => panic!("no spec"),
        }
    }

    #[bounded::test]
    fn a_known_model_needs_no_spec() {
        assert!(matches!(parsed(&["m", "--no-wait"]), Ok(None)));
    }

    #[bounded::test]
    fn settings_need_a_source() {
        assert!(matches!(
            parsed(&["m", "--dtype", "f16"]),
            Err(Failure::Usage(_))
        ));
    }

    #[bounded::test]
    fn settings_change_a_given_spec() {
        let json = r#"{"source":{"path":"/m"},"contextLength":5,"pinned":true}"#;
        let spec = spec(&[
            "m",
            "--spec",
            json,
            "--context-length",
            "6",
            "--pinned=false",
            "--path",
            "/other",
        ]);
        assert_eq!((spec.context_length, spec.pinned), (6, false));
        let source = spec.source.and_then(|source| source.source);
        assert_eq!(source, Some(Source::Path("/other".to_owned())));
    }

    #[bounded::test]
    fn adapters_are_added_to_those_of_a_spec() {
        let json = r#"{"source":{"demo":{}},"adapters":[{"name":"a","path":"/a"},{"name":"b","path":"/b"}]}"#;
        let given = [
            "m",
            "--spec",
            json,
            "--adapter",
            "b=demo",
            "--adapter",
            "c=/c=d",
        ];
        let adapters = spec(&given).adapters;
        let described: Vec<_> = adapters
            .iter()
            .map(|it| (it.name.as_str(), it.path.as_str(), it.demo.is_some()))
            .collect();
        let expected = [("a", "/a", false), ("b", "", true), ("c", "/c=d", false)];
        assert_eq!(described, expected);
        let given = ["m", "--spec", json, "--no-adapters", "--adapter", "c=/c"];
        assert_eq!(spec(&given).adapters.len(), 1);
        for wrong in ["a", "a=", "=/a"] {
            let arguments = ["hangarctl", "load", "m", "--adapter", wrong];
            assert!(Cli::try_parse_from(arguments).is_err(), "{wrong}");
        }
    }

    #[bounded::test]
    fn settings_are_where_the_server_reads_them() {
        let spec = spec(&[
            "m",
            "--hf",
            "Qwen/Qwen3",
            "--revision",
            "r",
            "--label",
            "a=b=c",
            "--default-temperature",
            "0.5",
            "--idle-timeout",
            "10m",
            "--priority",
            "-3",
            "--preload",
            "--restart",
            "never",
        ]);
        let hub = HuggingFaceSource {
            repository: "Qwen/Qwen3".to_owned(),
            revision: "r".to_owned(),
            files: vec![],
        };
        let source = spec.source.and_then(|source| source.source);
        assert_eq!(source, Some(Source::HuggingFace(hub)));
        assert_eq!(spec.labels.get("a").map(String::as_str), Some("b=c"));
        let sampling = spec
            .generation_defaults
            .and_then(|defaults| defaults.sampling);
        assert_eq!(
            sampling.and_then(|sampling| sampling.temperature),
            Some(0.5)
        );
        assert_eq!(spec.idle_timeout.map(|timeout| timeout.seconds), Some(600));
        assert_eq!((spec.priority, spec.preload), (-3, true));
        let mode = spec.restart_policy.map(|policy| policy.mode());
        assert_eq!(mode, Some(RestartMode::Never));
    }
}
