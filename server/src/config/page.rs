//! The page of settings is what their definitions say.

use std::fmt::Write;

use anyhow::Result;
use clap::{Arg, CommandFactory};

use super::Cli;

const PROTOS: &str = "proto/hangar/v1";

/// The arguments of `hangar serve` that are settings.
fn settings() -> Vec<Arg> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("hangar serve");
    let listed = |argument: &&Arg| argument.get_help_heading().is_some() && !argument.is_hide_set();
    serve.get_arguments().filter(listed).cloned().collect()
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
    let flag = setting.get_long().expect("a flag");
    let key = flag.replace('-', "_");
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

#[test]
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

#[test]
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
