//! Settings of the model hub.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, builder::BoolishValueParser};
use serde::Deserialize;

use super::{
    ConfigError,
    values::{self, Seconds},
};
use crate::download::{HubOptions, HubToken, Repositories};

/// Settings of the model hub from one source. All keys begin with `hub_`.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(skip)]
pub struct HubLayer {
    /// Model hub that speaks the Hugging Face protocol [default: https://huggingface.co]
    #[arg(
        long,
        env = "HANGAR_HUB_ENDPOINT",
        value_name = "URL",
        help_heading = "Model hub"
    )]
    pub hub_endpoint: Option<String>,
    /// File with the hub's token, read anew for each download; the environment variable HANGAR_HUB_TOKEN
    /// may hold the token itself [default: none, then only what is public can be had]
    #[arg(
        long,
        env = "HANGAR_HUB_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Model hub"
    )]
    pub hub_token_file: Option<PathBuf>,
    /// Use only what was downloaded before [default: false]
    #[arg(long, env = "HANGAR_HUB_OFFLINE", value_name = "BOOL", help_heading = "Model hub",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub hub_offline: Option<bool>,
    /// Directory of downloaded files [default: hub in the data directory]
    #[arg(
        long,
        env = "HANGAR_HUB_CACHE_DIR",
        value_name = "DIR",
        help_heading = "Model hub"
    )]
    pub hub_cache_dir: Option<PathBuf>,
    /// Repository that may be loaded, or a pattern such as 'Qwen/*', or '*' for all; repeat for more, or
    /// separate them by commas [default: none]
    #[arg(
        long,
        env = "HANGAR_HUB_REPOSITORIES",
        value_name = "PATTERN",
        help_heading = "Model hub",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "values::one_or_more")]
    pub hub_repositories: Option<Vec<String>>,
    /// A download that gets no byte for this long fails, and goes on later from there [default: 30s]
    #[arg(
        long,
        env = "HANGAR_HUB_STALL_TIMEOUT",
        value_name = "TIME",
        help_heading = "Model hub"
    )]
    pub hub_stall_timeout: Option<Seconds>,
}

/// The hub of huggingface.co.
const ENDPOINT: &str = "https://huggingface.co";

/// Holds the token itself. There is no flag for it: arguments can be seen by everybody on the machine.
const TOKEN: &str = "HANGAR_HUB_TOKEN";

impl HubLayer {
    /// These settings, and `below` where they are missing.
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            hub_endpoint: self.hub_endpoint.or(below.hub_endpoint),
            hub_token_file: self.hub_token_file.or(below.hub_token_file),
            hub_offline: self.hub_offline.or(below.hub_offline),
            hub_cache_dir: self.hub_cache_dir.or(below.hub_cache_dir),
            hub_repositories: self.hub_repositories.or(below.hub_repositories),
            hub_stall_timeout: self.hub_stall_timeout.or(below.hub_stall_timeout),
        }
    }

    /// Fills in the defaults and checks each value by itself.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the setting.
    pub(super) fn resolve(self, data_dir: &Path) -> Result<HubOptions, ConfigError> {
        let stall_timeout = values::positive(
            "hub_stall_timeout",
            self.hub_stall_timeout,
            Duration::from_secs(30),
        )?;
        let cache_dir = match self.hub_cache_dir {
            Some(path) => std::path::absolute(&path).map_err(|error| {
                ConfigError::invalid("hub_cache_dir", format!("{}: {error}", path.display()))
            })?,
            None => data_dir.join("hub"),
        };
        Ok(HubOptions {
            endpoint: endpoint(self.hub_endpoint)?,
            token: token(self.hub_token_file)?,
            offline: self.hub_offline.unwrap_or(false),
            cache_dir,
            repositories: Repositories::new(self.hub_repositories.unwrap_or_default()),
            stall_timeout,
        })
    }
}

fn endpoint(given: Option<String>) -> Result<String, ConfigError> {
    let text = values::not_empty(given).unwrap_or_else(|| ENDPOINT.to_owned());
    let usable = text.parse::<http::Uri>().is_ok_and(|uri| {
        let host = uri
            .authority()
            .is_some_and(|host| !host.as_str().contains('@'));
        matches!(uri.scheme_str(), Some("http" | "https")) && host && uri.query().is_none()
    });
    if usable {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(ConfigError::invalid(
        "hub_endpoint",
        // Without its words: what stands before an @ may be a password.
        format!(
            "is not a URL of a hub: write it like {ENDPOINT}, without user, password and query"
        ),
    ))
}

/// The token, whose file is seen to be readable. It goes before the environment.
fn token(file: Option<PathBuf>) -> Result<Option<HubToken>, ConfigError> {
    let Some(path) = file else {
        let value = values::not_empty(std::env::var(TOKEN).ok());
        return Ok(value.map(HubToken::Value));
    };
    let absolute = std::path::absolute(&path);
    match absolute.and_then(|path| std::fs::File::open(&path).map(|_| path)) {
        Ok(path) => Ok(Some(HubToken::File(path))),
        Err(error) => Err(ConfigError::invalid(
            "hub_token_file",
            format!("{}: {error}: name a file that can be read", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests;
