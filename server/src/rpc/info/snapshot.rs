//! The response to GetInfo.
//!
//! Invariant: its cost is that of the models that it describes and of those that hold memory, however many
//! are registered.

use std::sync::Arc;

use hangar_client::v1::{GetInfoRequest, GetInfoResponse, InfoView, ModelInfo};
use prost::Message;

use super::{
    Detail, DeviceHolding, RegisteredModels, ServerStart, cache, devices, model,
    registered::RegisteredPage, server, system,
};
use crate::{
    catalog::{ListQuery, StorageError},
    lifecycle::{Fleet, ModelFacts},
    model::{ModelId, Status},
    rpc::{MAX_MODELS_BYTES, convert, error::ApiError, validate::Violations},
    status::EventLog,
    system::SystemMonitor,
    wire,
};

/// What GetInfo describes.
#[derive(Clone, Copy)]
pub(in crate::rpc) struct Sources<'a> {
    pub(in crate::rpc) fleet: &'a Fleet,
    pub(in crate::rpc) event_log: &'a EventLog,
    pub(in crate::rpc) system: &'a SystemMonitor,
    pub(in crate::rpc) started: ServerStart,
    pub(in crate::rpc) registered: &'a RegisteredModels,
}

/// Models that are described, up to what one response has.
#[derive(Default)]
struct Described {
    models: Vec<ModelInfo>,
    bytes: usize,
}

/// Models in one response.
const MAX_MODELS: usize = 1000;

/// Bytes of the specs of models that are kept for the next response.
const MAX_KEPT_BYTES: usize = 4 << 20;

impl Sources<'_> {
    /// The response to `request`. Reads the catalog for models that are not tracked, where it has changed, and now and then a
    /// few files of /proc.
    pub(in crate::rpc) async fn response(
        &self,
        request: &GetInfoRequest,
    ) -> Result<GetInfoResponse, ApiError> {
        let mut violations = Violations::default();
        violations.check_result("view", InfoView::try_from(request.view));
        let only = match request.model_id.as_str() {
            "" => None,
            id => violations.model_id("model_id", id),
        };
        let about_one = !request.model_id.is_empty();
        violations.check(
            about_one || !request.include_history,
            "include_history",
            "is given with a model_id only",
        );
        violations.finish()?;
        let detail = Detail {
            full: request.view() == InfoView::Full
                || (about_one && request.view() == InfoView::Unspecified),
            metrics: request.include_metrics,
            history: request.include_history,
        };
        let (models, truncated) = match &only {
            Some(name) => (vec![self.one_model(name, detail).await?], false),
            None => self.first_models(detail).await?,
        };
        let holding = self.event_log.select(|status| status.memory.is_some());
        Ok(GetInfoResponse {
            server: Some(server(
                self.fleet,
                self.started,
                self.event_log.epoch().as_str(),
            )),
            system: Some(system(
                &self.system.recent(self.event_log.revision().0),
                &holding,
            )),
            devices: devices(&self.system.devices(), &self.on_devices(&holding)),
            cache: self.fleet.prepared().map(|kept| cache(kept)),
            switches: self
                .fleet
                .switches(MAX_MODELS)
                .iter()
                .map(convert::switch)
                .collect(),
            truncated,
            models,
        })
    }

    /// The model that `name` stands for.
    async fn one_model(&self, name: &ModelId, detail: Detail) -> Result<ModelInfo, ApiError> {
        if let Some(tracked) = self.fleet.tracked(name) {
            return Ok(self.model(&tracked.facts(), detail));
        }
        let entry = self.fleet.find(name).await?;
        Ok(self.model(&ModelFacts::of(entry), detail))
    }

    /// The first models, by id, as many as one answer has, and whether there are more.
    async fn first_models(&self, detail: Detail) -> Result<(Vec<ModelInfo>, bool), StorageError> {
        let catalog = self.fleet.catalog();
        let mut described = Described::default();
        if let Some(page) = self.registered.current(catalog) {
            let mut models = page.models.iter();
            let fit = models.all(|facts| described.add(self.model(facts, detail)));
            return Ok((described.models, page.more || !fit));
        }
        // First of all: what is read afterwards is as new or newer.
        let generation = catalog.generation();
        let mut kept = Vec::new();
        let mut kept_bytes = 0;
        let mut after = None;
        loop {
            let query = ListQuery {
                after,
                limit: MAX_MODELS - kept.len(),
                ..ListQuery::default()
            };
            let page = catalog.list(query).await?;
            for entry in page.entries {
                let facts = ModelFacts::of(entry);
                kept_bytes += wire::spec_message(&facts.entry.spec).encoded_len();
                if !described.add(self.model(&facts, detail)) {
                    return Ok((described.models, true));
                }
                kept.push(Arc::new(facts));
            }
            after = page.next;
            if after.is_none() || kept.len() >= MAX_MODELS {
                break;
            }
        }
        let more = after.is_some();
        if kept_bytes <= MAX_KEPT_BYTES {
            self.registered.keep(RegisteredPage {
                generation,
                models: kept,
                more,
            });
        }
        Ok((described.models, more))
    }

    /// What is said of the model of these `facts`, or of what is known of it by now where it is tracked.
    fn model(&self, facts: &ModelFacts, detail: Detail) -> ModelInfo {
        let id = &facts.entry.id;
        let status = self.fleet.status(id);
        let holders = self.fleet.holders(id);
        match self.fleet.tracked(id) {
            Some(tracked) => {
                let facts = tracked.facts();
                model(&facts, Some(&tracked), &status, &holders, detail)
            }
            None => model(facts, None, &status, &holders, detail),
        }
    }

    /// What models, which hold memory, have on devices.
    fn on_devices(&self, holding: &[Status]) -> Vec<DeviceHolding> {
        let on_device = |status: &Status| {
            let bytes = status.memory?.device_bytes;
            let model = self.fleet.tracked(&status.model_id);
            let model = model.filter(|_| bytes > 0)?;
            let device = model.facts().learned.metadata.device.clone()?;
            Some(DeviceHolding { device, bytes })
        };
        holding.iter().filter_map(on_device).collect()
    }
}

impl Described {
    /// Adds a model, if it still goes into the response. The first one does.
    fn add(&mut self, model: ModelInfo) -> bool {
        self.bytes += model.encoded_len();
        let fits = self.bytes <= MAX_MODELS_BYTES || self.models.is_empty();
        if fits {
            self.models.push(model);
        }
        fits
    }
}
