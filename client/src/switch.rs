//! SwitchModel: points an alias at another model, and waits for how that ends.

mod outcome;
mod watching;

use std::time::Duration;

pub use self::watching::Switching;
use crate::{
    call::{self, UnaryCall},
    client::Client,
    convert::{to_duration, to_proto_duration},
    error::Error,
    unload::{DEFAULT_DRAIN, STOP},
    v1::{
        DemoSource, ModelSpec, ModelStatus, SwitchInfo, SwitchModelRequest, SwitchModelResponse,
        SwitchStrategy, model_service, model_source::Source,
    },
};

/// The server's default for [`Switch::timeout`].
const DEFAULT_LOAD: Duration = Duration::from_secs(300);

/// Switches an alias. Made by [`Client::switch`].
///
/// The switch belongs to the alias: dropping a future of this does not end it.
#[derive(Clone, Debug)]
#[must_use = "nothing is switched before `start` or `wait`"]
pub struct Switch {
    client: Client,
    request: SwitchModelRequest,
    deadline: Option<Duration>,
}

impl Client {
    /// Points `alias` at another model: loads that, moves the alias, unloads the old one. An alias that
    /// does not exist is created.
    ///
    /// ```no_run
    /// # async fn example(client: hangar_client::Client) -> Result<(), hangar_client::Error> {
    /// use hangar_client::Error;
    ///
    /// match client.switch("chat", "qwen-2").wait().await {
    ///     Ok(switch) => println!("{} is {}", switch.alias, switch.to_model_id),
    ///     Err(Error::Switch(failure)) if failure.old_serves() => println!("as before: {failure}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn switch(&self, alias: impl Into<String>, model_id: impl Into<String>) -> Switch {
        let request = SwitchModelRequest {
            alias: alias.into(),
            model_id: model_id.into(),
            ..Default::default()
        };
        Switch {
            client: self.clone(),
            request,
            deadline: None,
        }
    }
}

impl Switch {
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

    /// In which order to load and unload. Default: the old model serves until the new one is READY if
    /// both fit, else it makes room first.
    pub fn strategy(mut self, strategy: SwitchStrategy) -> Self {
        self.request.set_strategy(strategy);
        self
    }

    /// How long requests that the old model runs may go on. Default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.request.drain_timeout = Some(to_proto_duration(timeout));
        self
    }

    /// The load of the new model fails after this time, all attempts together. Default 300 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = Some(to_proto_duration(timeout));
        self
    }

    /// Id that makes the call safe to repeat, also by another process. Default: one of its own.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// How long to wait for the outcome; the switch goes on after it. Default: as long as a switch may take
    /// at most, which is twice the [`timeout`](Self::timeout) (a roll-back may have to load the old model
    /// anew) and the [`drain_timeout`](Self::drain_timeout), and a minute.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Begins the switch and does not wait for its end. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with SWITCH_IN_PROGRESS, MODEL_NOT_FOUND for an unknown model without a spec,
    /// SPEC_CONFLICT, MODEL_EXISTS when a model has the alias's name, INVALID_FIELD or
    /// SOURCE_NOT_ALLOWED.
    pub async fn start(self) -> Result<Switching, Error> {
        let deadline = self.deadline.unwrap_or_else(|| self.longest());
        let Self {
            client, request, ..
        } = self;
        let (alias, model_id) = (request.alias.clone(), request.model_id.clone());
        let answer = send(&client, request).await?;
        Ok(Switching::new(client, alias, model_id, answer, deadline))
    }

    /// Only checks the call, and tells which strategy would be chosen and how long it would take.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn validate(mut self) -> Result<SwitchModelResponse, Error> {
        self.request.validate_only = true;
        send(&self.client, self.request).await
    }

    /// Begins the switch and waits until the alias points at the new model, over disconnects and restarts
    /// of the server.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start) and [`Switching::wait`].
    pub async fn wait(self) -> Result<SwitchInfo, Error> {
        self.start().await?.wait().await
    }

    /// As [`wait`](Self::wait), and tells `on_status` the new model's transitions and progress.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_with(self, on_status: impl FnMut(&ModelStatus)) -> Result<SwitchInfo, Error> {
        self.start().await?.wait_with(on_status).await
    }

    fn source(mut self, source: Source) -> Self {
        let spec = self.request.spec.get_or_insert_default();
        spec.source = Some(source.into());
        self
    }

    fn longest(&self) -> Duration {
        let or = |duration: &Option<_>, default| duration.as_ref().map_or(default, to_duration);
        let load = or(&self.request.timeout, DEFAULT_LOAD);
        let drain = or(&self.request.drain_timeout, DEFAULT_DRAIN);
        load.saturating_mul(2)
            .saturating_add(drain)
            .saturating_add(STOP)
    }
}

async fn send(
    client: &Client,
    mut request: SwitchModelRequest,
) -> Result<SwitchModelResponse, Error> {
    call::ensure_request_id(&mut request.request_id);
    let call = UnaryCall {
        method: model_service::SWITCH_MODEL,
        deadline: Some(client.settings().timeout),
    };
    let stub = client.model_service();
    let send = |request| {
        let mut stub = stub.clone();
        async move { stub.switch_model(request).await }
    };
    call.send(client.settings(), request, send).await
}
