//! What the catalog refuses.

use super::*;
use crate::{
    catalog::{DeleteError, NameTaken, RegisterError, StorageError, UpdateError},
    lifecycle::RegistryError,
    model::Etag,
    rpc::error::catalog_refusal::CatalogRefusalKind,
};

fn etag() -> Etag {
    Etag("abc".to_owned())
}

fn metadata(details: &ErrorDetails, key: &str) -> String {
    let info = details.error_info().expect("every error carries ErrorInfo");
    info.metadata[key].clone()
}

/// A refusal of this kind, with its code, its reason, and what its metadata has.
type Row = (
    CatalogRefusal,
    Code,
    &'static str,
    &'static [(&'static str, &'static str)],
);

fn refusal(kind: CatalogRefusalKind) -> Row {
    let (model, etag) = (id("m"), etag());
    let precondition = Code::FailedPrecondition;
    match kind {
        CatalogRefusalKind::Taken => {
            let (name, by) = (id("a"), model);
            let taken = CatalogRefusal::Taken(NameTaken { name, by });
            let metadata = &[("name", "a"), ("model_id", "m")];
            (taken, Code::AlreadyExists, "MODEL_EXISTS", metadata)
        }
        CatalogRefusalKind::EtagRequired => {
            let required = CatalogRefusal::EtagRequired { model, etag };
            (required, precondition, "ETAG_REQUIRED", &[("etag", "abc")])
        }
        CatalogRefusalKind::Stale => {
            let stale = CatalogRefusal::Stale { model, etag };
            (stale, Code::Aborted, "ETAG_MISMATCH", &[("etag", "abc")])
        }
        CatalogRefusalKind::Loaded => {
            let loaded = CatalogRefusal::Loaded(model);
            (loaded, precondition, "MODEL_LOADED", &[("model_id", "m")])
        }
        CatalogRefusalKind::Aliased => {
            let aliases = vec![id("a"), id("b")];
            let aliased = CatalogRefusal::Aliased { model, aliases };
            let metadata = &[("aliases", "a,b")];
            (aliased, precondition, "MODEL_ALIASED", metadata)
        }
        CatalogRefusalKind::Declared => {
            let declared = CatalogRefusal::Declared(model);
            let metadata = &[("model_id", "m")];
            (declared, precondition, "MODEL_DECLARED", metadata)
        }
        CatalogRefusalKind::StorageFull => {
            let full = CatalogRefusal::StorageFull;
            (full, Code::ResourceExhausted, "STORAGE_FULL", &[])
        }
        CatalogRefusalKind::PageToken => {
            let token = CatalogRefusal::PageToken;
            (token, Code::InvalidArgument, "TOKEN_INVALID", &[])
        }
    }
}

#[bounded::test]
fn every_refusal_of_the_catalog_has_its_code_and_reason() {
    for &kind in CatalogRefusalKind::VARIANTS {
        let (refusal, code, reason, expected) = refusal(kind);
        let details = check(refusal.into(), code, reason);
        for (key, value) in expected {
            assert_eq!(metadata(&details, key), *value, "{kind:?}");
        }
        let of_state = code == Code::FailedPrecondition;
        assert!(!of_state || details.precondition_failure().is_some());
    }
}

#[bounded::test]
fn a_name_that_is_taken_and_a_disk_that_is_full_are_the_subjects_of_their_errors() {
    let of = |kind| {
        let (refusal, code, reason, _) = refusal(kind);
        check(refusal.into(), code, reason)
    };
    let taken = of(CatalogRefusalKind::Taken);
    let name = taken.resource_info().map(|it| it.resource_name.as_str());
    assert_eq!(name, Some("a"));
    let full = of(CatalogRefusalKind::StorageFull);
    assert!(full.quota_failure().is_some());
}

fn full() -> StorageError {
    StorageError::Full
}

fn check_each(errors: impl IntoIterator<Item = (ApiError, Code, &'static str)>) {
    for (error, code, reason) in errors {
        check(error, code, reason);
    }
}

#[bounded::test]
fn failures_of_the_storage_have_their_codes_and_reasons() {
    let failed = StorageError::Failed("the secret cause".to_owned());
    check_each([
        (full().into(), Code::ResourceExhausted, "STORAGE_FULL"),
        (failed.into(), Code::Internal, "INTERNAL"),
    ]);
}

#[bounded::test]
fn refused_registrations_have_their_codes_and_reasons() {
    let exhausted = Code::ResourceExhausted;
    check_each([
        (
            RegisterError::Storage(full()).into(),
            exhausted,
            "STORAGE_FULL",
        ),
        (RegisterError::Full(3).into(), exhausted, "LIMIT_REACHED"),
        (
            RegisterError::Declared(id("m")).into(),
            Code::FailedPrecondition,
            "MODEL_DECLARED",
        ),
        (
            RegisterError::Unknown(id("m")).into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
        ),
    ]);
}

#[bounded::test]
fn refused_updates_have_their_codes_and_reasons() {
    let update = |error| RegistryError::Update(id("m"), error).into();
    check_each([
        (
            update(UpdateError::Unknown),
            Code::NotFound,
            "MODEL_NOT_FOUND",
        ),
        (
            update(UpdateError::Stale(etag())),
            Code::Aborted,
            "ETAG_MISMATCH",
        ),
        (
            update(UpdateError::Declared),
            Code::FailedPrecondition,
            "MODEL_DECLARED",
        ),
        (
            update(UpdateError::Storage(full())),
            Code::ResourceExhausted,
            "STORAGE_FULL",
        ),
    ]);
}

#[bounded::test]
fn refused_deletions_have_their_codes_and_reasons() {
    let delete = |error| RegistryError::Delete(id("m"), error).into();
    let aliased = DeleteError::Aliased(vec![id("a")]);
    check_each([
        (
            delete(DeleteError::Unknown),
            Code::NotFound,
            "MODEL_NOT_FOUND",
        ),
        (
            delete(DeleteError::Stale(etag())),
            Code::Aborted,
            "ETAG_MISMATCH",
        ),
        (
            delete(DeleteError::Declared),
            Code::FailedPrecondition,
            "MODEL_DECLARED",
        ),
        (delete(aliased), Code::FailedPrecondition, "MODEL_ALIASED"),
        (
            RegistryError::Loaded(id("m")).into(),
            Code::FailedPrecondition,
            "MODEL_LOADED",
        ),
        (
            RegistryError::ShuttingDown.into(),
            Code::Unavailable,
            "SHUTTING_DOWN",
        ),
    ]);
}
