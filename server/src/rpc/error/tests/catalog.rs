//! What the catalog refuses.

use super::*;
use crate::{
    catalog::{DeleteError, NameTaken, RegisterError, StorageError, UpdateError},
    lifecycle::RegistryError,
    model::Etag,
};

fn id(id: &str) -> ModelId {
    ModelId::parse(id).expect("a well-formed id")
}

fn etag() -> Etag {
    Etag("abc".to_owned())
}

fn metadata(details: &ErrorDetails, key: &str) -> String {
    let info = details.error_info().expect("every error carries ErrorInfo");
    info.metadata[key].clone()
}

#[test]
fn every_refusal_of_the_catalog_has_its_code_and_reason() {
    let model = || id("m");
    let taken = CatalogRefusal::Taken(NameTaken {
        name: id("a"),
        by: model(),
    });
    let details = check(taken.into(), Code::AlreadyExists, "MODEL_EXISTS");
    assert_eq!(metadata(&details, "name"), "a");
    assert_eq!(metadata(&details, "model_id"), "m");
    assert_eq!(
        details.resource_info().map(|r| r.resource_name.as_str()),
        Some("a")
    );

    let required = CatalogRefusal::EtagRequired {
        model: model(),
        etag: etag(),
    };
    let details = check(required.into(), Code::FailedPrecondition, "ETAG_REQUIRED");
    assert_eq!(metadata(&details, "etag"), "abc");
    let stale = CatalogRefusal::Stale {
        model: model(),
        etag: etag(),
    };
    let details = check(stale.into(), Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(metadata(&details, "etag"), "abc");

    let aliased = CatalogRefusal::Aliased {
        model: model(),
        aliases: vec![id("a"), id("b")],
    };
    let details = check(aliased.into(), Code::FailedPrecondition, "MODEL_ALIASED");
    assert_eq!(metadata(&details, "aliases"), "a,b");
    for (refusal, reason) in [
        (CatalogRefusal::Loaded(model()), "MODEL_LOADED"),
        (CatalogRefusal::Declared(model()), "MODEL_DECLARED"),
    ] {
        let details = check(refusal.into(), Code::FailedPrecondition, reason);
        assert_eq!(metadata(&details, "model_id"), "m");
        assert!(details.precondition_failure().is_some());
    }

    let full = CatalogRefusal::StorageFull.into();
    let details = check(full, Code::ResourceExhausted, "STORAGE_FULL");
    assert!(details.quota_failure().is_some());
    check(
        CatalogRefusal::PageToken.into(),
        Code::InvalidArgument,
        "TOKEN_INVALID",
    );
}

fn full() -> StorageError {
    StorageError::Full
}

fn check_each(errors: impl IntoIterator<Item = (ApiError, Code, &'static str)>) {
    for (error, code, reason) in errors {
        check(error, code, reason);
    }
}

#[test]
fn failures_of_the_storage_have_their_codes_and_reasons() {
    let failed = StorageError::Failed("the secret cause".to_owned());
    check_each([
        (full().into(), Code::ResourceExhausted, "STORAGE_FULL"),
        (failed.into(), Code::Internal, "INTERNAL"),
    ]);
}

#[test]
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

#[test]
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

#[test]
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
