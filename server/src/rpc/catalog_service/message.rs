//! Entries as messages.

use hangar_client::v1;

use crate::{
    catalog::{CatalogEntry, ModelOrigin},
    wire,
};

/// The whole entry.
pub(super) fn model(entry: &CatalogEntry) -> v1::Model {
    let origin = match entry.origin {
        ModelOrigin::Api => v1::ModelOrigin::Api,
        ModelOrigin::File => v1::ModelOrigin::File,
    };
    v1::Model {
        uid: entry.uid.to_string(),
        etag: entry.etag.0.clone(),
        version: entry.version,
        create_time: Some(entry.created.into()),
        update_time: Some(entry.updated.into()),
        origin: origin.into(),
        ..writable_fields(entry)
    }
}

/// The entry without what is output only.
pub(super) fn writable_fields(entry: &CatalogEntry) -> v1::Model {
    v1::Model {
        model_id: entry.id.to_string(),
        spec: Some(wire::spec_message(&entry.spec)),
        aliases: entry.aliases.iter().map(ToString::to_string).collect(),
        ..v1::Model::default()
    }
}
