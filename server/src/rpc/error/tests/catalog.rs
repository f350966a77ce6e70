//! What the catalog refuses.

use super::*;
use crate::{
    catalog::{DeleteError, RegisterError, StorageError, Taken, UpdateError},
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
    let taken = CatalogRefusal::Taken(Taken {
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

#[test]
fn errors_of_every_layer_become_these() {
    let full = || StorageError::Full;
    let update = |error| RegistryError::Update(id("m"), error);
    let delete = |error| RegistryError::Delete(id("m"), error);
    let failed = StorageError::Failed("the secret cause".to_owned());
    for (error, code, reason) in [
        (full().into(), Code::ResourceExhausted, "STORAGE_FULL"),
        (failed.into(), Code::Internal, "INTERNAL"),
        (
            RegisterError::Storage(full()).into(),
            Code::ResourceExhausted,
            "STORAGE_FULL",
        ),
        (
            RegisterError::Full(3).into(),
            Code::ResourceExhausted,
            "LIMIT_REACHED",
        ),
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
        (
            update(UpdateError::Unknown).into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
        ),
        (
            update(UpdateError::Stale(etag())).into(),
            Code::Aborted,
            "ETAG_MISMATCH",
        ),
        (
            update(UpdateError::Declared).into(),
            Code::FailedPrecondition,
            "MODEL_DECLARED",
        ),
        (
            update(UpdateError::Storage(full())).into(),
            Code::ResourceExhausted,
            "STORAGE_FULL",
        ),
        (
            delete(DeleteError::Unknown).into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
        ),
        (
            delete(DeleteError::Stale(etag())).into(),
            Code::Aborted,
            "ETAG_MISMATCH",
        ),
        (
            delete(DeleteError::Declared).into(),
            Code::FailedPrecondition,
            "MODEL_DECLARED",
        ),
        (
            delete(DeleteError::Aliased(vec![id("a")])).into(),
            Code::FailedPrecondition,
            "MODEL_ALIASED",
        ),
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
    ] {
        check(error, code, reason);
    }
}
