//! What the catalog refuses, and the errors that callers get.

use hangar_client::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::details::details;
use crate::{
    catalog::NameTaken,
    model::{Etag, ModelId},
};

/// What the catalog refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(
        name(CatalogRefusalKind),
        doc = "Refusals without their data.",
        derive(strum::VariantArray)
    )
)]
pub enum CatalogRefusal {
    /// An id or an alias is taken.
    Taken(NameTaken),
    /// A change needs the entry's etag.
    EtagRequired {
        /// The model.
        model: ModelId,
        /// Its etag.
        etag: Etag,
    },
    /// The entry has another etag.
    Stale {
        /// The model.
        model: ModelId,
        /// Its etag.
        etag: Etag,
    },
    /// The model is loaded.
    Loaded(ModelId),
    /// The model has aliases.
    Aliased {
        /// The model.
        model: ModelId,
        /// The aliases.
        aliases: Vec<ModelId>,
    },
    /// The model is declared in the configuration file.
    Declared(ModelId),
    /// The disk is full.
    StorageFull,
    /// A page token was not made by this server for this list.
    PageToken,
}

impl From<CatalogRefusal> for Status {
    fn from(refusal: CatalogRefusal) -> Self {
        match refusal {
            CatalogRefusal::Taken(taken) => name_taken(&taken),
            CatalogRefusal::EtagRequired { model, etag } => precondition(
                ErrorReason::EtagRequired,
                "ETAG",
                &model,
                format!("etag: is required; {model} has {}", etag.0),
                ("etag", etag.0),
            ),
            CatalogRefusal::Stale { model, etag } => stale(&model, etag),
            CatalogRefusal::Loaded(model) => precondition(
                ErrorReason::ModelLoaded,
                "LOADED",
                &model,
                format!("model {model} is loaded; unload it first, or give force"),
                ("model_id", model.to_string()),
            ),
            CatalogRefusal::Aliased { model, aliases } => aliased(&model, &aliases),
            CatalogRefusal::Declared(model) => precondition(
                ErrorReason::ModelDeclared,
                "DECLARED",
                &model,
                format!(
                    "model {model} is declared in the server's configuration file; change it there"
                ),
                ("model_id", model.to_string()),
            ),
            CatalogRefusal::StorageFull => storage_full(),
            CatalogRefusal::PageToken => Status::with_error_details(
                Code::InvalidArgument,
                "page_token: was not given by this server for this filter and order; begin again without it",
                details(ErrorReason::TokenInvalid, []),
            ),
        }
    }
}

fn name_taken(taken: &NameTaken) -> Status {
    let metadata = [
        ("name", taken.name.to_string()),
        ("model_id", taken.by.to_string()),
    ];
    let mut details = details(ErrorReason::ModelExists, metadata);
    details.set_resource_info("hangar.v1.Model", taken.name.as_str(), "", "exists");
    Status::with_error_details(Code::AlreadyExists, taken.to_string(), details)
}

fn stale(model: &ModelId, etag: Etag) -> Status {
    let message = format!(
        "model {model} was changed meanwhile; read it again, its etag is {}",
        etag.0
    );
    let metadata = [("model_id", model.to_string()), ("etag", etag.0)];
    let details = details(ErrorReason::EtagMismatch, metadata);
    Status::with_error_details(Code::Aborted, message, details)
}

fn aliased(model: &ModelId, aliases: &[ModelId]) -> Status {
    let aliases: Vec<_> = aliases.iter().map(ToString::to_string).collect();
    let aliases = aliases.join(",");
    let message =
        format!("model {model} has the aliases {aliases}; take them away first, or give force");
    let metadata = ("aliases", aliases);
    precondition(
        ErrorReason::ModelAliased,
        "ALIASED",
        model,
        message,
        metadata,
    )
}

fn storage_full() -> Status {
    let mut details = details(ErrorReason::StorageFull, []);
    details.add_quota_failure_violation("data directory", "no room for what was to be written");
    let message = "the disk of the server's data directory is full; nothing was changed";
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn precondition(
    reason: ErrorReason,
    kind: &str,
    model: &ModelId,
    message: String,
    metadata: (&str, String),
) -> Status {
    let mut details = details(reason, [("model_id", model.to_string()), metadata]);
    details.add_precondition_failure_violation(kind, model.as_str(), message.clone());
    Status::with_error_details(Code::FailedPrecondition, message, details)
}
