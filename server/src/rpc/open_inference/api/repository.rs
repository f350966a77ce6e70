//! Triton's repository extension: what is registered, loads and unloads.

use std::collections::BTreeMap;

use hangar_client::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, model_repository_parameter::ParameterChoice,
    repository_index_response::ModelIndex,
};
use tonic::Status;

use super::OpenInferenceApi;
use crate::{
    catalog::EntrySummary,
    lifecycle::{LoadOptions, Reload, UnloadOptions},
    model::{self, state::StateGroup},
    rpc::{
        error::ApiError,
        open_inference::truncated::truncated,
        validate::{Violations, model_id, refuse},
    },
};

impl OpenInferenceApi {
    /// All registered models.
    pub(in crate::rpc::open_inference) async fn index(
        &self,
        request: &RepositoryIndexRequest,
    ) -> Result<Vec<ModelIndex>, ApiError> {
        check_repository(&request.repository_name)?;
        let entries = self.fleet.catalog().summaries().await?;
        let mut models: Vec<_> = entries.iter().map(|entry| self.index_of(entry)).collect();
        if request.ready {
            models.retain(|model| model.state == READY);
        }
        Ok(models)
    }

    fn index_of(&self, entry: &EntrySummary) -> ModelIndex {
        let (state, mut reason) = state(&self.fleet.status(&entry.id));
        if let Some(model) = self.fleet.tracked(&entry.id).filter(|_| state == READY)
            && let Some(why) = model.facts().reload_reason()
        {
            reason = format!("reload required: {why}");
        }
        ModelIndex {
            name: entry.id.to_string(),
            version: entry.version.to_string(),
            state: state.to_owned(),
            reason,
        }
    }

    /// Loads a model and waits until it is READY. One that is READY is loaded anew if its spec or its files
    /// have changed since.
    pub(in crate::rpc::open_inference) async fn load(
        &self,
        request: &RepositoryModelLoadRequest,
    ) -> Result<(), Status> {
        check_repository(&request.repository_name)?;
        let id = model_id("model_name", &request.model_name)?;
        let file = |name: &String| name.starts_with("file:");
        refuse(&[
            (
                "parameters.config",
                request.parameters.contains_key("config"),
            ),
            ("parameters.file", request.parameters.keys().any(file)),
        ])?;
        check_parameters(&request.parameters, |_, _| false)?;
        let options = LoadOptions {
            reload: Reload::IfOutdated,
            ..LoadOptions::new(self.options.load_timeout)
        };
        let fleet = self.fleet.clone();
        let load = async move { Ok(fleet.load(&id, options).await.map_err(ApiError::from)?) };
        let ticket = self.loads.run(load).await?;
        self.fleet.wait(ticket).await.map_err(ApiError::from)?;
        Ok(())
    }

    /// Drains and unloads a model.
    pub(in crate::rpc::open_inference) async fn unload(
        &self,
        request: &RepositoryModelUnloadRequest,
    ) -> Result<(), Status> {
        check_repository(&request.repository_name)?;
        let id = model_id("model_name", &request.model_name)?;
        check_parameters(&request.parameters, |name, choice| {
            name == "unload_dependents" && matches!(choice, Some(ParameterChoice::BoolParam(_)))
        })?;
        let options = UnloadOptions {
            drain_timeout: self.options.drain_timeout,
            force: false,
            session: None,
        };
        let fleet = self.fleet.clone();
        let unload = async move {
            let unloaded = fleet.unload(&id, options).await;
            unloaded.map_err(|error| ApiError::of_unload(error, &fleet.resolve(&id)))?;
            Ok(())
        };
        self.unloads.run(unload).await
    }
}

const READY: &str = "READY";

/// The state of a model by the name that Triton has for it, and why it is not READY.
fn state(status: &model::Status) -> (&'static str, String) {
    let failure = status.failure.as_ref().map(ToString::to_string);
    let state = status.state.name().to_owned();
    match status.state.group() {
        StateGroup::Serve => (READY, String::new()),
        StateGroup::Load(_) | StateGroup::Retry => ("LOADING", failure.unwrap_or(state)),
        StateGroup::Drain | StateGroup::Stop => ("UNLOADING", state),
        StateGroup::Idle => {
            let suspended = status.suspended.as_ref();
            let why = failure.or(suspended.map(|suspension| suspension.message.clone()));
            ("UNAVAILABLE", why.unwrap_or_else(|| "unloaded".to_owned()))
        }
    }
}

fn check_repository(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Ok(());
    }
    let what = "must be empty: there is one repository, without a name";
    Err(ApiError::invalid("repository_name", what))
}

/// Refuses a parameter that is not `right`.
fn check_parameters(
    parameters: &BTreeMap<String, ModelRepositoryParameter>,
    right: impl Fn(&str, Option<&ParameterChoice>) -> bool,
) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    let wrong = |(name, parameter): &(&String, &ModelRepositoryParameter)| {
        !right(name, parameter.parameter_choice.as_ref())
    };
    if let Some((name, _)) = parameters.iter().find(wrong) {
        let what = format!(
            "{} is no parameter of this call, or of another type",
            truncated(name)
        );
        violations.add("parameters", what);
    }
    Ok(violations.finish()?)
}
