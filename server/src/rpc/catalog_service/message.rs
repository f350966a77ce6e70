//! Entries as messages.

use std::time::Duration;

use hangar_client::v1;

use crate::{
    catalog::{Entry, Origin},
    lifecycle::{UnloadReport, Verification},
    model::ModelId,
    wire,
};

/// The whole entry.
pub(super) fn model(entry: &Entry) -> v1::Model {
    let origin = match entry.origin {
        Origin::Api => v1::ModelOrigin::Api,
        Origin::File => v1::ModelOrigin::File,
    };
    v1::Model {
        uid: entry.uid.to_string(),
        etag: entry.etag.0.clone(),
        version: entry.version,
        create_time: Some(entry.created.into()),
        update_time: Some(entry.updated.into()),
        origin: origin.into(),
        ..given(entry)
    }
}

/// The entry without what is output only.
pub(super) fn given(entry: &Entry) -> v1::Model {
    v1::Model {
        model_id: entry.id.to_string(),
        spec: Some(wire::spec(&entry.spec)),
        aliases: entry.aliases.iter().map(ToString::to_string).collect(),
        ..v1::Model::default()
    }
}

/// What unloading a model did.
pub(super) fn unload(id: &ModelId, report: &UnloadReport, elapsed: Duration) -> v1::ModelUnload {
    let verification = match report.verification {
        Verification::Nothing => v1::UnloadVerification::Unspecified,
        Verification::Reaped => v1::UnloadVerification::Reaped,
        Verification::TimedOut => v1::UnloadVerification::TimedOut,
    };
    v1::ModelUnload {
        model_id: id.to_string(),
        was_loaded: report.was_loaded,
        host_bytes_freed: report.host_bytes,
        device_bytes_freed: report.device_bytes,
        verification: verification.into(),
        elapsed: wire::duration(elapsed),
        error: None,
        killed: report.killed,
    }
}
