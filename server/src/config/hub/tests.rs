//! Tests of the hub's settings: where they come from, and what is refused.

use std::io::Write;

use clap::Parser;
use tempfile::NamedTempFile;

use super::*;
use crate::config::{Cli, Command, Settings};

fn load(arguments: &[&str]) -> Result<HubOptions, ConfigError> {
    let all = ["hangar", "serve", "--data-dir=/d"].iter().chain(arguments);
    let settings = match Cli::try_parse_from(all).unwrap().command {
        Command::Serve(serve) => serve.settings,
        Command::Demo(demo) => demo.settings,
    };
    Settings::load(settings).map(|settings| settings.hub)
}

fn load_file(text: &str, arguments: &[&str]) -> Result<HubOptions, ConfigError> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let config = format!("--config={}", file.path().display());
    load(&[&[config.as_str()], arguments].concat())
}

#[bounded::test]
fn by_default_nothing_may_be_loaded() {
    let hub = load(&[]).unwrap();
    assert_eq!(hub.endpoint, ENDPOINT);
    assert_eq!(hub.cache_dir, Path::new("/d/hub"));
    assert_eq!(hub.stall_timeout, Duration::from_secs(30));
    assert!(!hub.offline && !hub.repositories.allow("Qwen/Qwen3-0.6B"));
}

#[bounded::test]
fn repositories_are_repeatable_and_can_be_a_list() {
    let several = ["--hub-repositories=a/b,c/*", "--hub-repositories", "d/e"];
    let file = "hub_repositories = [\"a/b\", \"c/*\", \"d/e\"]";
    for hub in [load(&several).unwrap(), load_file(file, &[]).unwrap()] {
        assert!(
            ["a/b", "c/x", "d/e"]
                .iter()
                .all(|name| hub.repositories.allow(name))
        );
        assert!(!hub.repositories.allow("a/c"));
    }
}

#[bounded::test]
fn a_flag_goes_before_the_file() {
    let file = "hub_offline = true\nhub_endpoint = \"http://mirror/\"\nmax_models = 3";
    let hub = load_file(file, &["--hub-offline=false"]).unwrap();
    assert_eq!(
        (hub.offline, hub.endpoint.as_str()),
        (false, "http://mirror")
    );
}

#[bounded::test]
fn what_is_wrong_is_refused_by_name() {
    for (text, key, hint) in [
        ("hub_offlne = true", "hub_offlne", "expected one of"),
        ("hub_endpoint = \"hub\"", "hub_endpoint", "https://"),
        (
            "hub_endpoint = \"http://u:p@hub\"",
            "hub_endpoint",
            "https://",
        ),
        (
            "hub_stall_timeout = \"0s\"",
            "hub_stall_timeout",
            "more than 0s",
        ),
        (
            "hub_stall_timeout = 3",
            "hub_stall_timeout",
            "write it like 30s",
        ),
        (
            "hub_token_file = \"/no/token\"",
            "hub_token_file",
            "can be read",
        ),
        ("hub_token = \"secret\"", "hub_token", "expected one of"),
    ] {
        let error = load_file(text, &[]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(hint), "{error}");
    }
}

#[bounded::test]
fn a_token_is_not_shown() {
    let token = HubToken::Value("secret".to_owned());
    assert!(!format!("{token:?}").contains("secret"));
}
