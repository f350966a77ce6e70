//! Arguments of the commands about texts and tokens.

use std::{path::PathBuf, time::Duration};

use clap::Args;

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The prompt. Read from standard input when it is "-" or missing.
    pub(crate) prompt: Option<String>,
    /// The prompt is a message of a conversation, put into the model's chat template (the default).
    #[arg(long, conflicts_with = "raw")]
    pub(crate) chat: bool,
    /// The prompt is tokens, as they are: numbers with spaces or commas between.
    #[arg(long, conflicts_with_all = ["chat", "raw", "system", "image", "tools", "template_option"])]
    pub(crate) token_ids: bool,
    /// The prompt is text to go on with, as it is.
    #[arg(long, conflicts_with = "system")]
    pub(crate) raw: bool,
    /// Image before the prompt, for models that take images; may be given more than once.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub(crate) image: Vec<PathBuf>,
    /// A system message before the prompt.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Longest answer in tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<u32>,
    /// From 0 (always the most likely token) to 2.
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// Smallest set of tokens whose probabilities add up to this.
    #[arg(long)]
    pub(crate) top_p: Option<f32>,
    /// The K most likely tokens; 0 for all.
    #[arg(long)]
    pub(crate) top_k: Option<u32>,
    /// Tokens at least this likely, relative to the most likely one.
    #[arg(long)]
    pub(crate) min_p: Option<f32>,
    /// Text that ends the answer; may be given more than once.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Same seed, same answer.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of answers, at most 8; each has a seed of its own.
    #[arg(short, value_name = "ANSWERS")]
    pub(crate) n: Option<u32>,
    /// Shortest answer in tokens.
    #[arg(long, value_name = "TOKENS", conflicts_with = "constraint")]
    pub(crate) min_tokens: Option<u32>,
    /// Never choose the model's end tokens.
    #[arg(long, conflicts_with = "constraint")]
    pub(crate) ignore_eos: bool,
    /// Token that ends the answer; may be given more than once.
    #[arg(long, value_name = "TOKEN")]
    pub(crate) stop_token_id: Vec<u32>,
    /// Is added to a token's score, as TOKEN=NUMBER from -100 to 100; may be given more than once.
    #[arg(long, value_name = "TOKEN=NUMBER", value_parser = token_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Leave what the model thinks in the text.
    #[arg(long)]
    pub(crate) keep_reasoning: bool,
    /// Show how likely the tokens of the prompt were.
    #[arg(long)]
    pub(crate) prompt_logprobs: bool,
    /// Show how likely each token was, with so many of the most likely ones (at most 20).
    #[arg(long, value_name = "TOP", num_args = 0..=1, default_missing_value = "0")]
    pub(crate) logprobs: Option<u32>,
    /// The answer conforms to this JSON schema; @FILE reads it from a file.
    #[arg(long, value_name = "SCHEMA", group = "constraint")]
    pub(crate) json_schema: Option<String>,
    /// The whole answer matches this regular expression; @FILE reads it from a file.
    #[arg(long, value_name = "REGEX", group = "constraint")]
    pub(crate) regex: Option<String>,
    /// The answer conforms to this grammar in Lark's notation; @FILE reads it from a file.
    #[arg(long, value_name = "GRAMMAR", group = "constraint")]
    pub(crate) lark: Option<String>,
    /// Functions that the model may call: a JSON list of objects with name, description and parameters (a
    /// JSON schema); @FILE reads it from a file.
    #[arg(long, value_name = "LIST", conflicts_with = "raw")]
    pub(crate) tools: Option<String>,
    /// "auto" (the model decides), "none", "required" (it has to call one), or the name of the one to call.
    #[arg(long, value_name = "CHOICE", requires = "tools")]
    pub(crate) tool_choice: Option<String>,
    /// Variable of the chat template, as NAME=VALUE with a value in JSON (or a plain text); may be given
    /// more than once.
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "raw", value_parser = named_value)]
    pub(crate) template_option: Vec<(String, String)>,
    /// Of waiting requests, the one with the highest priority runs first.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) priority: i32,
    /// The generation ends after this time, for example 30s.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

/// Arguments of `tokenize`.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The text. Read from standard input when it is "-" or missing.
    pub(crate) text: Option<String>,
    /// Add the tokens that the tokenizer puts around a text.
    #[arg(long, conflicts_with_all = ["chat", "system", "tools", "template_option"])]
    pub(crate) add_special_tokens: bool,
    /// The text is a message of a conversation: show the prompt that the model's chat template makes of it, and its
    /// tokens.
    #[arg(long)]
    pub(crate) chat: bool,
    /// A system message before the text.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub(crate) system: Option<String>,
    /// Functions that the model may call, as for generate.
    #[arg(long, value_name = "LIST", requires = "chat")]
    pub(crate) tools: Option<String>,
    /// Variable of the chat template, as for generate.
    #[arg(long, value_name = "NAME=VALUE", requires = "chat", value_parser = named_value)]
    pub(crate) template_option: Vec<(String, String)>,
}

/// Arguments of `detokenize`.
#[derive(Debug, Args)]
pub(crate) struct DetokenizeArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The tokens.
    #[arg(required = true)]
    pub(crate) token_ids: Vec<u32>,
    /// Leave out tokens such as that of a text's end.
    #[arg(long)]
    pub(crate) skip_special_tokens: bool,
}

fn named_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn token_bias(text: &str) -> Result<(u32, f32), String> {
    let (token, bias) = text.split_once('=').ok_or("write TOKEN=NUMBER")?;
    let token = token.parse().map_err(|_| "a token is a whole number")?;
    let bias = bias.parse().map_err(|_| "what is added is a number")?;
    Ok((token, bias))
}
