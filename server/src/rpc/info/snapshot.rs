//! The response to GetInfo.
//!
//! Invariant: its cost is that of the models that it describes and of those that hold memory, however many
//! are registered.

use hangar_client::v1::{GetInfoRequest, GetInfoResponse, InfoView, ModelInfo};
use prost::Message;

use super::{Detail, DeviceHolding, ServerStart, cache, devices, model, server, system};
use crate::{
    catalog::{CatalogEntry, ListQuery, StorageError},
    lifecycle::Fleet,
    model::Status,
    rpc::{MAX_MODELS_BYTES, convert, error::ApiError, validate::Violations},
    status::EventLog,
    system::SystemMonitor,
};

/// What GetInfo describes.
#[derive(Clone, Copy)]
pub(in crate::rpc) struct Sources<'a> {
    pub(in crate::rpc) fleet: &'a Fleet,
    pub(in crate::rpc) event_log: &'a EventLog,
    pub(in crate::rpc) system: &'a SystemMonitor,
    pub(in crate::rpc) started: ServerStart,
}

/// Models in one response.
const MAX_MODELS: usize = 1000;

impl Sources<'_> {
    /// The response to `request`. Reads a few files of /proc, and the catalog.
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
            Some(name) => {
                let entry = self.fleet.find(name).await?;
                (vec![self.model(entry, detail)], false)
            }
            None => self.first_models(detail).await?,
        };
        let holding = self.event_log.select(|status| status.memory.is_some());
        Ok(GetInfoResponse {
            server: Some(server(
                self.fleet,
                self.started,
                self.event_log.epoch().as_str(),
            )),
            system: Some(system(&self.system.sample(), &holding)),
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

    /// The first models, by id, as many as one answer has, and whether there are more.
    async fn first_models(&self, detail: Detail) -> Result<(Vec<ModelInfo>, bool), StorageError> {
        let mut models = Vec::new();
        let mut bytes = 0;
        let mut after = None;
        loop {
            let query = ListQuery {
                after,
                limit: MAX_MODELS - models.len(),
                ..ListQuery::default()
            };
            let page = self.fleet.catalog().list(query).await?;
            for entry in page.entries {
                let model = self.model(entry, detail);
                bytes += model.encoded_len();
                if bytes > MAX_MODELS_BYTES && !models.is_empty() {
                    return Ok((models, true));
                }
                models.push(model);
            }
            after = page.next;
            if after.is_none() || models.len() >= MAX_MODELS {
                return Ok((models, after.is_some()));
            }
        }
    }

    fn model(&self, entry: CatalogEntry, detail: Detail) -> ModelInfo {
        let id = entry.id.clone();
        let status = self.fleet.status(&id);
        let holders = self.fleet.holders(&id);
        let tracked = self.fleet.tracked(&id);
        model(entry, tracked.as_deref(), &status, &holders, detail)
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
