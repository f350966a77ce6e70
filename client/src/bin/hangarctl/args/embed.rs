//! Arguments of `embed`.

use std::time::Duration;

use clap::Args;

/// Examples of `embed`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  hangarctl embed e 'a text' 'another text'
  hangarctl embed e < texts.txt
  hangarctl embed e --output json 'a text' | jq -c '.embeddings[].values'";

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The texts. Without any, each line of standard input is one.
    pub(crate) texts: Vec<String>,
    /// Of waiting requests, the one with the highest priority runs first.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) priority: i32,
    /// The call ends after this time, for example 30s.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}
