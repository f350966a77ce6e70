//! The page of settings is what their definitions say, and that is how they are.

use std::fmt::Write;

use anyhow::Result;
use clap::{Arg, CommandFactory, Parser};

use super::{Cli, Command, Settings};

const PROTOS: &str = "proto/hangar/v1";

/// Settings that the page leaves out: for tests.
const HIDDEN: [&str; 1] = ["history_interval"];

/// Settings whose variable is not theirs alone, and so has another name than theirs.
const COMMON_VARIABLES: [(&str, &str); 1] = [("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT")];

/// Settings whose default depends on others or on where the server runs, or which have none: it is described in words.
const DESCRIBED_DEFAULTS: [&str; 11] = [
    "data_dir",
    "runtime_dir",
    "model_root",
    "worker",
    "worker_cuda",
    "hub_token_file",
    "hub_cache_dir",
    "hub_repositories",
    "memory_limit",
    "log_format",
    "otlp_endpoint",
];

/// Values, of which each setting takes at least one that is not its default.
const VALUES: [&str; 14] = [
    "7",
    "7s",
    "0.5",
    "8KiB",
    "1GiB",
    "true",
    "false",
    "127.0.0.1:7",
    "http://localhost:7",
    "/",
    "/bin/sh",
    "text",
    "json",
    "required",
];

/// All settings: the arguments of `hangar serve` but for the configuration file.
fn all() -> Vec<Arg> {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").expect("hangar serve");
    let others = ["config", "help", "version"];
    let is_setting = |argument: &&Arg| !others.contains(&argument.get_id().as_str());
    serve.get_arguments().filter(is_setting).cloned().collect()
}

/// Those that the page has.
fn settings() -> Vec<Arg> {
    let mut settings = all();
    settings.retain(|setting| !setting.is_hide_set());
    settings
}

/// The key of a setting in the file.
fn key(setting: &Arg) -> String {
    setting.get_long().expect("a flag").replace('-', "_")
}

/// What the server runs with where these arguments are given; nothing where they are refused.
fn with(arguments: &[String]) -> Option<Settings> {
    let arguments = ["hangar", "serve"]
        .into_iter()
        .chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(arguments).ok()?.command {
        Command::Serve(serve) => Settings::load(serve.settings).ok(),
        Command::Demo(_) => None,
    }
}

/// The words of a setting, and its default.
fn words(setting: &Arg) -> (String, String) {
    let help = setting.get_help().expect("words").to_string();
    let (meaning, default) = help
        .split_once("[default: ")
        .unwrap_or_else(|| panic!("{} tells no default", setting.get_id()));
    let default = default.trim().trim_end_matches(']');
    (meaning.trim().to_owned(), default.to_owned())
}

fn row(setting: &Arg) -> String {
    let key = key(setting);
    let variable = setting.get_env().expect("a variable").to_string_lossy();
    let (meaning, default) = words(setting);
    let values: Vec<_> = setting
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let kind = setting.get_value_names().unwrap_or_default().join(" ");
    let kind = match values.is_empty() || kind == "BOOL" {
        true => kind,
        false => values.join(" or "),
    };
    format!("| `{key}` | `{variable}` | {kind} | {meaning} | {default} |")
}

#[bounded::test]
fn the_page_of_settings_is_what_their_definitions_say() -> Result<()> {
    let mut page = String::new();
    let mut heading = None;
    for setting in settings() {
        if heading.as_deref() != setting.get_help_heading() {
            heading = setting.get_help_heading().map(str::to_owned);
            let title = heading.as_deref().unwrap_or_default();
            writeln!(page, "\n### {title}\n")?;
            writeln!(page, "| key | variable | value | meaning | default |")?;
            writeln!(page, "|---|---|---|---|---|")?;
        }
        writeln!(page, "{}", row(&setting))?;
    }
    hangar_codegen::pages::check("docs/configuration.md", "settings", &page)
}

#[bounded::test]
fn every_setting_has_its_place_and_its_variable() {
    for setting in all() {
        let key = key(&setting);
        assert!(setting.get_help_heading().is_some(), "{key} has no heading");
        assert_eq!(setting.is_hide_set(), HIDDEN.contains(&&*key), "{key}");
        let common = COMMON_VARIABLES.iter().find(|(of, _)| *of == key);
        let variable = match common {
            Some((_, variable)) => (*variable).to_owned(),
            None => format!("HANGAR_{}", key.to_uppercase()),
        };
        assert_eq!(setting.get_env(), Some(variable.as_ref()), "{key}");
    }
}

#[bounded::test]
fn every_default_is_as_it_is_described() {
    let defaults = with(&[]).expect("defaults");
    for setting in all() {
        let (key, (_, default)) = (key(&setting), words(&setting));
        if DESCRIBED_DEFAULTS.contains(&&*key) {
            continue;
        }
        let given = with(&[format!("--{}={default}", key.replace('_', "-"))]);
        assert_eq!(
            given.as_ref(),
            Some(&defaults),
            "{key} is not {default} by default"
        );
    }
}

#[bounded::test]
fn every_setting_changes_what_the_server_runs_with() {
    let defaults = with(&[]).expect("defaults");
    for setting in all() {
        let flag = setting.get_long().expect("a flag");
        let mut given = VALUES
            .iter()
            .filter_map(|value| with(&[format!("--{flag}={value}")]));
        let changes = given.any(|settings| settings != defaults);
        assert!(changes, "--{flag} does nothing");
    }
}

#[bounded::test]
fn flags_that_the_protos_name_are_there() -> Result<()> {
    let flags: Vec<_> = settings()
        .iter()
        .filter_map(|setting| setting.get_long().map(str::to_owned))
        .collect();
    for entry in std::fs::read_dir(hangar_codegen::workspace().join(PROTOS))? {
        let text = std::fs::read_to_string(entry?.path())?;
        for part in text.split("`--").skip(1) {
            let flag = part.split(['`', '=', ' ']).next().unwrap_or_default();
            anyhow::ensure!(flags.iter().any(|known| known == flag), "no flag --{flag}");
        }
    }
    Ok(())
}
