//! CreateModel, UpdateModel and DeleteModel.

use std::time::Instant;

use hangar_client::v1::{
    self, CreateModelRequest, CreateModelResponse, DeleteModelRequest, DeleteModelResponse,
    UpdateModelRequest, UpdateModelResponse,
};

use super::{CatalogHandlers, mask::Mask, message};
use crate::{
    catalog::{CatalogEntry, EntryChange, ModelOrigin, NewEntry},
    lifecycle::{RegistryError, UnloadReport},
    model::{Etag, Spec},
    rpc::{
        convert,
        error::{ApiError, CatalogRefusal},
        request_ids::CallIdentity,
        validate::{self, Violations},
    },
    wire,
};

impl CatalogHandlers {
    pub(super) async fn create(
        &self,
        request: CreateModelRequest,
        identity: Option<CallIdentity>,
    ) -> Result<CreateModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let id = violations.model_id("model_id", &request.model_id);
        let given = request.spec.as_ref();
        let spec = given.map(|spec| wire::read_spec(spec, "spec", &mut violations));
        violations.check(spec.is_some(), "spec", "is required");
        let aliases = violations.aliases("aliases", &request.aliases, id.as_ref());
        violations.finish()?;
        given.map_or(Ok(()), validate::refuse_later_fields)?;
        let (Some(id), Some(spec)) = (id, spec) else {
            return Err(ApiError::invalid("model_id", "is required"));
        };
        let new = NewEntry {
            id,
            spec,
            aliases,
            origin: ModelOrigin::Api,
        };
        if request.validate_only {
            let entry = self.fleet.check_create(new).await?;
            let model = Some(message::writable_fields(&entry));
            return Ok(CreateModelResponse { model });
        }
        let response = |entry: &CatalogEntry| CreateModelResponse {
            model: Some(message::model(entry)),
        };
        let remember = identity.map(|identity| identity.with(response));
        Ok(response(&self.fleet.create(new, remember).await?))
    }

    pub(super) async fn update(
        &self,
        request: UpdateModelRequest,
        identity: Option<CallIdentity>,
    ) -> Result<UpdateModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let given = request.model.clone().unwrap_or_default();
        let id = violations.model_id("model.model_id", &given.model_id);
        let paths = request.update_mask.as_ref().map(|mask| &mask.paths[..]);
        let mask = Mask::parse(paths.unwrap_or_default(), &mut violations)?;
        let aliases = mask
            .names("aliases")
            .then(|| violations.aliases("model.aliases", &given.aliases, id.as_ref()));
        let entry = match &id {
            Some(id) => Some(self.fleet.find(id).await),
            None => None,
        };
        let spec = match &entry {
            Some(Ok(entry)) if mask.names("spec") => {
                Some(merge(&mask, &given, entry, &mut violations)?)
            }
            _ => None,
        };
        violations.finish()?;
        let entry = entry.ok_or_else(|| ApiError::invalid("model.model_id", "is required"))??;
        check_etag(&request.etag, &entry)?;
        let spec = spec.transpose()?;
        let change = EntryChange {
            etag: Etag(request.etag),
            spec,
            aliases,
        };
        if request.validate_only {
            let (entry, reload_required) = self.fleet.check_update(&entry.id, change).await?;
            return Ok(updated(&entry, reload_required));
        }
        let fleet = self.fleet.clone();
        let response = move |entry: &CatalogEntry| updated(entry, fleet.needs_reload(entry));
        let remember = identity.map(|identity| identity.with(response));
        let (entry, reload_required) = self.fleet.update(&entry.id, change, remember).await?;
        Ok(updated(&entry, reload_required))
    }

    pub(super) async fn delete(
        &self,
        request: DeleteModelRequest,
        identity: Option<CallIdentity>,
    ) -> Result<DeleteModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let id = violations.model_id("model_id", &request.model_id);
        violations.finish()?;
        let Some(id) = id else {
            return Err(ApiError::invalid("model_id", "is required"));
        };
        let began = Instant::now();
        let etag = (!request.etag.is_empty()).then_some(Etag(request.etag));
        let mut response = DeleteModelResponse::default();
        let remember = |report: Option<UnloadReport>| {
            let unload = report.map(|report| convert::unloaded(&id, &report, began.elapsed()));
            response = DeleteModelResponse { unload };
            let answer = response.clone();
            identity.map(|identity| identity.with(move |_| answer))
        };
        let deleted = self.fleet.delete(&id, etag, request.force, remember).await;
        match deleted {
            Ok(_) => Ok(response),
            Err(error) => Err(self.registry_error(error).await),
        }
    }

    /// How a refused removal is reported: an id that is unknown comes with those that are known.
    async fn registry_error(&self, error: RegistryError) -> ApiError {
        match error {
            RegistryError::Delete(id, error) => {
                ApiError::of_delete(error, self.fleet.unknown(&id).await)
            }
            other => other.into(),
        }
    }
}

/// The spec of `entry` with what the mask names as it is in `given`. What is wrong with it is added to
/// `violations`; what is right and cannot be honoured is refused once nothing is wrong.
fn merge(
    mask: &Mask,
    given: &v1::Model,
    entry: &CatalogEntry,
    violations: &mut Violations,
) -> Result<Result<Spec, ApiError>, ApiError> {
    let merged = mask.apply(given, &message::writable_fields(entry))?;
    let Some(spec) = merged.spec else {
        violations.add("model.spec", "is required");
        return Ok(Ok(Spec::clone(&entry.spec)));
    };
    let checked = wire::read_spec(&spec, "model.spec", violations);
    Ok(validate::refuse_later_fields(&spec).map(|()| checked))
}

fn check_etag(given: &str, entry: &CatalogEntry) -> Result<(), CatalogRefusal> {
    let (model, etag) = (entry.id.clone(), entry.etag.clone());
    match given {
        "" => Err(CatalogRefusal::EtagRequired { model, etag }),
        given if given != etag.0 => Err(CatalogRefusal::Stale { model, etag }),
        _ => Ok(()),
    }
}

fn updated(entry: &CatalogEntry, reload_required: bool) -> UpdateModelResponse {
    UpdateModelResponse {
        model: Some(message::model(entry)),
        reload_required,
    }
}
