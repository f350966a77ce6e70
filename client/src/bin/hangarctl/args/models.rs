//! Arguments of `models`.

use clap::{Args, Subcommand, ValueEnum};
use hangar_client::v1;

use super::spec::{Kind, Label, SpecArgs, label};

const LIST_EXAMPLES: &str = "\
Examples:
  hangarctl models list
  hangarctl models list --label team=search --order update-time --descending
  hangarctl models list --json | jq -r '.models[].modelId'";

const GET_EXAMPLES: &str = "\
Examples:
  hangarctl models get qwen
  hangarctl models get qwen --spec-only > qwen.json   # for `models update qwen --file qwen.json`";

const CREATE_EXAMPLES: &str = "\
Examples:
  hangarctl models create demo --demo
  hangarctl models create qwen --path /models/Qwen3-0.6B --alias chat --label team=search --preload
  hangarctl models create qwen --file qwen.toml --dry-run

A spec as TOML has the names of hangar.v1.ModelSpec:
  idle_timeout = \"600s\"
  source.path = \"/models/Qwen3-0.6B\"
  restart_policy.mode = \"RESTART_MODE_NEVER\"";

const UPDATE_EXAMPLES: &str = "\
Examples:
  hangarctl models update qwen --default-temperature 0.2 --max-queue 16
  hangarctl models update qwen --label team=search --remove-label trial --alias chat
  hangarctl models update qwen --file qwen.json        # the whole spec
  hangarctl models update qwen --pinned=false --etag \"$ETAG\"

Only what is given is changed. Without --etag the change is made again when somebody else was faster.";

/// What to do with the catalog.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models that are registered.
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show the entry of a model or an alias.
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// Register a model. It is not loaded.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// Change a model's spec or aliases.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(Box<UpdateArgs>),
    /// Remove a model with its aliases and what was learned about it; its files stay.
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
}

/// Arguments of `models list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only with this label; KEY alone: with any value. May be given more than once.
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label)]
    pub(crate) label: Vec<Label>,
    /// Only from such a source.
    #[arg(long, value_enum)]
    pub(crate) source: Option<Source>,
    /// Only of this kind.
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
    /// What to order by.
    #[arg(long, value_enum, default_value_t = SortOrder::Id)]
    pub(crate) order: SortOrder,
    /// From the last to the first.
    #[arg(long)]
    pub(crate) descending: bool,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// Arguments of `models get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Id or alias of the model.
    pub(crate) model: String,
    /// Only if its etag is not this one; otherwise nothing is written.
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_none_match: Option<String>,
    /// Only the spec, as JSON.
    #[arg(long)]
    pub(crate) spec_only: bool,
}

/// Arguments of `models create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Id of the new model.
    pub(crate) model: String,
    /// Another name of it; may be given more than once.
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    /// Only check; everything that is wrong is told at once.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
}

/// Arguments of `models update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Id or alias of the model.
    pub(crate) model: String,
    /// Another name to add; may be given more than once.
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    /// Another name to remove; may be given more than once.
    #[arg(long, value_name = "ALIAS")]
    pub(crate) remove_alias: Vec<String>,
    /// Key of a label to remove; may be given more than once.
    #[arg(long, value_name = "KEY")]
    pub(crate) remove_label: Vec<String>,
    /// Only if this is the model's etag.
    #[arg(long)]
    pub(crate) etag: Option<String>,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
}

/// Arguments of `models delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Id of the model, not an alias.
    pub(crate) model: String,
    /// Only if this is the model's etag.
    #[arg(long)]
    pub(crate) etag: Option<String>,
    /// Also when it is loaded, which ends what it runs, or has aliases.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Where a model's files come from.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Source {
    /// A path.
    Path,
    /// A repository of the Hugging Face hub.
    HuggingFace,
    /// The built-in model.
    Demo,
}

/// Orders of a list.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SortOrder {
    /// By id.
    Id,
    /// By the time of registration.
    CreateTime,
    /// By the time of the last change of the spec.
    UpdateTime,
}

impl ModelsCommand {
    /// Name of the command, and the model that it is about.
    pub(crate) fn subject(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::List(_) => ("models list", None),
            Self::Get(args) => ("models get", Some(&args.model)),
            Self::Create(args) => ("models create", Some(&args.model)),
            Self::Update(args) => ("models update", Some(&args.model)),
            Self::Delete(args) => ("models delete", Some(&args.model)),
        }
    }
}

impl From<Source> for v1::SourceKind {
    fn from(source: Source) -> Self {
        match source {
            Source::Path => Self::Path,
            Source::HuggingFace => Self::HuggingFace,
            Source::Demo => Self::Demo,
        }
    }
}

impl From<SortOrder> for v1::ModelOrder {
    fn from(order: SortOrder) -> Self {
        match order {
            SortOrder::Id => Self::Id,
            SortOrder::CreateTime => Self::CreateTime,
            SortOrder::UpdateTime => Self::UpdateTime,
        }
    }
}
