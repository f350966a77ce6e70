//! LoadModel: makes models ready.

use std::{pin::pin, time::Duration};

use crate::{
    call::{self, UnaryCall},
    client::Client,
    convert::to_proto_duration,
    error::Error,
    v1::{
        DemoSource, LoadModelRequest, LoadModelResponse, LoraAdapter, ModelLoad, ModelSpec,
        ModelState, ModelStatus, load_model_request::Target, model_service, model_source::Source,
    },
    watch::WatchEvent,
};

/// Loads one model. Made by [`Client::load`].
///
/// The load belongs to the model: dropping the future of [`wait`](Self::wait) does not end it,
/// [`Client::unload`] does.
#[derive(Clone, Debug)]
#[must_use = "nothing is loaded before `send` or `wait`"]
pub struct Load {
    client: Client,
    request: LoadModelRequest,
    deadline: Option<Duration>,
}

/// Loads all registered models. Made by [`Client::load_all`].
#[derive(Clone, Debug)]
#[must_use = "nothing is loaded before `send` or `wait`"]
pub struct LoadAll(Load);

impl Client {
    /// Makes a model ready, registered before or by this call. `model_id` is its id, or an alias.
    pub fn load(&self, model_id: impl Into<String>) -> Load {
        Load::new(self.clone(), model_id.into())
    }

    /// Makes all registered models ready but those that are FAILED.
    pub fn load_all(&self) -> LoadAll {
        LoadAll::new(self.clone())
    }
}

impl Load {
    pub(crate) fn new(client: Client, model_id: String) -> Self {
        Self::of(client, Target::ModelId(model_id))
    }

    fn of(client: Client, target: Target) -> Self {
        let request = LoadModelRequest {
            target: Some(target),
            ..Default::default()
        };
        Self {
            client,
            request,
            deadline: None,
        }
    }

    /// Registers the model with this spec if it is not known. Replaces what [`path`](Self::path) or
    /// [`demo`](Self::demo) set.
    pub fn spec(mut self, spec: ModelSpec) -> Self {
        self.request.spec = Some(spec);
        self
    }

    /// The model is this directory, or this GGUF file, on the server's machine.
    pub fn path(self, path: impl Into<String>) -> Self {
        self.source(Source::Path(path.into()))
    }

    /// The model is the small one that is built into Hangar.
    pub fn demo(self) -> Self {
        self.source(Source::Demo(DemoSource {}))
    }

    /// Merges the LoRA adapter in this directory on the server's machine into the model. May be called more than
    /// once, after what says which model it is.
    pub fn adapter(self, name: impl Into<String>, path: impl Into<String>) -> Self {
        self.lora(LoraAdapter {
            name: name.into(),
            path: path.into(),
            ..Default::default()
        })
    }

    /// Merges the LoRA adapter that is built into Hangar for its demo model into the model, under this name.
    pub fn demo_adapter(self, name: impl Into<String>) -> Self {
        self.lora(LoraAdapter {
            name: name.into(),
            demo: Some(DemoSource {}),
            ..Default::default()
        })
    }

    fn lora(mut self, adapter: LoraAdapter) -> Self {
        let spec = self.request.spec.get_or_insert_default();
        spec.adapters.push(adapter);
        self
    }

    /// The session holds the model: when its last holder closes or lapses, the model is unloaded, unless it is
    /// to be loaded anyway. Takes a [`&Session`](crate::Session) or a session's id.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.request.session_id = session.into();
        self
    }

    /// The load fails after this time, all attempts together. Default 300 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = Some(to_proto_duration(timeout));
        self
    }

    /// Loads anew even when the model is READY, with the given spec in place of the registered one.
    pub fn force_reload(mut self) -> Self {
        self.request.force_reload = true;
        self
    }

    /// Id that makes the call safe to repeat, also by another process. Default: one of its own.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// How long [`wait`](Self::wait) waits for an answer; the load goes on after it. Default: until the
    /// load ends.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Begins the load, or joins the one that is under way, and does not wait for its end. Tried again
    /// when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND for an unknown model without a spec, SPEC_CONFLICT,
    /// INVALID_FIELD, SOURCE_NOT_ALLOWED, SESSION_NOT_FOUND.
    pub async fn send(self) -> Result<ModelLoad, Error> {
        let deadline = Some(self.deadline.unwrap_or(self.client.settings().timeout));
        one(self.send_any(deadline).await?)
    }

    /// Only checks the call: nothing is registered and nothing loaded.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn validate(mut self) -> Result<ModelLoad, Error> {
        self.request.validate_only = true;
        self.send().await
    }

    /// Waits until the model is READY.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and how the load failed: [`Error::Refused`] with MODEL_UNUSABLE,
    /// INSUFFICIENT_MEMORY, WORKER_DIED, WORKER_HUNG, LOAD_TIMEOUT, LOAD_STALLED or LOAD_CANCELLED.
    pub async fn wait(mut self) -> Result<ModelLoad, Error> {
        self.request.wait = true;
        let deadline = self.deadline;
        let load = one(self.send_any(deadline).await?)?;
        match load.status.as_ref().map(ModelStatus::state) {
            Some(ModelState::Ready) => Ok(load),
            _ => Err(Error::Protocol(
                "LoadModel answered although the model is not READY",
            )),
        }
    }

    /// As [`wait`](Self::wait), and tells `on_status` every transition of the model and its progress;
    /// last that it is READY.
    ///
    /// For an alias only the last is told. Where the watch cannot be had, the load goes on without it.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_with(
        self,
        mut on_status: impl FnMut(&ModelStatus),
    ) -> Result<ModelLoad, Error> {
        let Some(Target::ModelId(model_id)) = &self.request.target else {
            return self.wait().await;
        };
        let mut watch = self.client.watch().model(model_id).stream();
        // The watch is open before the load begins, so that its first states are not missed.
        let mut watching = matches!(watch.next().await, Some(Ok(_)));
        let mut load = pin!(self.wait());
        let mut reported = None;
        let load = loop {
            let event = tokio::select! {
                biased;
                event = watch.next(), if watching => event,
                load = &mut load => break load?,
            };
            match event {
                Some(Ok(event)) => each_status(event, |status| {
                    reported = Some((status.state(), status.generation));
                    on_status(status);
                }),
                Some(Err(_)) | None => watching = false,
            }
        };
        let last = load
            .status
            .as_ref()
            .filter(|status| reported != Some((status.state(), status.generation)));
        last.into_iter().for_each(on_status);
        Ok(load)
    }

    fn source(mut self, source: Source) -> Self {
        let spec = self.request.spec.get_or_insert_default();
        spec.source = Some(source.into());
        self
    }

    async fn send_any(mut self, deadline: Option<Duration>) -> Result<LoadModelResponse, Error> {
        call::ensure_request_id(&mut self.request.request_id);
        let call = UnaryCall {
            method: model_service::LOAD_MODEL,
            deadline,
        };
        let stub = self.client.model_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.load_model(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }
}

impl LoadAll {
    pub(crate) fn new(client: Client) -> Self {
        Self(Load::of(client, Target::All(true)))
    }

    /// As [`Load::timeout`], for each model.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// As [`Load::request_id`].
    pub fn request_id(self, request_id: impl Into<String>) -> Self {
        Self(self.0.request_id(request_id))
    }

    /// As [`Load::send`]. How each model fared is in its [`ModelLoad::into_result`].
    ///
    /// # Errors
    ///
    /// When the call as a whole failed.
    pub async fn send(self) -> Result<LoadModelResponse, Error> {
        let deadline = self.0.client.settings().timeout;
        self.0.send_any(Some(deadline)).await
    }

    /// Waits until no load is under way any more.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn wait(mut self) -> Result<LoadModelResponse, Error> {
        self.0.request.wait = true;
        self.0.send_any(None).await
    }
}

impl ModelLoad {
    /// This item of a load of all models, or how it failed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with what [`error`](Self::error) says, its reason and details included.
    pub fn into_result(self) -> Result<Self, Error> {
        match self.error {
            Some(status) => Err(Error::from(status)),
            None => Ok(self),
        }
    }
}

fn one(mut response: LoadModelResponse) -> Result<ModelLoad, Error> {
    let load = response.loads.pop();
    load.ok_or(Error::Protocol("LoadModel gave no result for the model"))?
        .into_result()
}

fn each_status(event: WatchEvent, mut report: impl FnMut(&ModelStatus)) {
    match event {
        WatchEvent::Snapshot { models, .. } => models.iter().for_each(report),
        WatchEvent::Transition { status, .. } | WatchEvent::Progress { status } => report(&status),
        _ => {}
    }
}
