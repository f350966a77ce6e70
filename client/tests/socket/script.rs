//! A server that answers by a script.

mod asked;
mod catalog;
mod sessions;

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use hangar_client::{
    Client,
    v1::{
        ChangeKind, DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse,
        GenerateRequest, GenerateResponse, GetInfoRequest, GetInfoResponse, LoadModelRequest,
        LoadModelResponse, ModelChanged, ModelLoad, ModelState, ModelStatus, StatusSnapshot,
        SwitchChanged, SwitchInfo, SwitchModelRequest, SwitchModelResponse, SwitchOutcome,
        TokenizeRequest, TokenizeResponse, UnloadModelRequest, UnloadModelResponse,
        WatchStatusRequest, WatchStatusResponse,
        catalog_service_server::CatalogServiceServer,
        inference_service_server::{InferenceService, InferenceServiceServer},
        model_service_server::{ModelService, ModelServiceServer},
        session_service_server::SessionServiceServer,
        watch_status_response::Event,
    },
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

pub(crate) use self::{asked::Asked, catalog::Catalog, sessions::Sessions};

/// What one connection of a watch gets; the stream ends after it.
pub(crate) type Answers = Vec<Result<WatchStatusResponse, Status>>;

/// A server that answers by a script and notes what it was asked. What the script lacks is INTERNAL.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<State>>);

/// What is left of a script, and what was asked.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) watches: VecDeque<Answers>,
    pub(crate) loads: VecDeque<Result<LoadModelResponse, Status>>,
    pub(crate) info: Option<GetInfoResponse>,
    /// Answers of GetInfo before `info`.
    pub(crate) infos: Asked<GetInfoRequest, GetInfoResponse>,
    pub(crate) switches: Asked<SwitchModelRequest, SwitchModelResponse>,
    pub(crate) catalog: Catalog,
    pub(crate) sessions: Sessions,
    pub(crate) unload: Option<UnloadModelResponse>,
    pub(crate) generate: Vec<Result<GenerateResponse, Status>>,
    /// Holds back the end of the call that answers with `generate`.
    pub(crate) generate_end: Option<oneshot::Receiver<()>>,
    pub(crate) embeds: Asked<EmbedRequest, EmbedResponse>,
    pub(crate) tokens: Vec<String>,
    pub(crate) load_requests: Vec<LoadModelRequest>,
    pub(crate) unload_requests: Vec<UnloadModelRequest>,
    pub(crate) generate_requests: Vec<GenerateRequest>,
}

impl Script {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn watches(watches: impl IntoIterator<Item = Answers>) -> Self {
        Self::new(State {
            watches: watches.into_iter().collect(),
            ..Default::default()
        })
    }

    /// Serves on a free port until the set is dropped.
    pub(crate) async fn serve(&self) -> (Client, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ModelServiceServer::new(self.clone()))
            .add_service(CatalogServiceServer::new(self.clone()))
            .add_service(SessionServiceServer::new(self.clone()))
            .add_service(InferenceServiceServer::new(self.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap()
        });
        let builder =
            Client::builder(format!("http://{address}")).retry_delay(Duration::from_millis(1));
        (builder.connect().await.unwrap(), tasks)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Answered<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn missing<T>() -> Result<T, Status> {
    Err(Status::internal("not in the script"))
}

#[tonic::async_trait]
impl ModelService for Script {
    type WatchStatusStream = Answered<WatchStatusResponse>;

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Answer<Self::WatchStatusStream> {
        let mut state = self.state();
        state.tokens.push(request.into_inner().resume_token);
        match state.watches.pop_front() {
            Some(answers) => Ok(Response::new(Box::pin(stream::iter(answers)))),
            None => Ok(Response::new(Box::pin(stream::pending()))),
        }
    }

    async fn load_model(&self, request: Request<LoadModelRequest>) -> Answer<LoadModelResponse> {
        let mut state = self.state();
        state.load_requests.push(request.into_inner());
        state
            .loads
            .pop_front()
            .unwrap_or_else(missing)
            .map(Response::new)
    }

    async fn get_info(&self, request: Request<GetInfoRequest>) -> Answer<GetInfoResponse> {
        let mut state = self.state();
        if !state.infos.answers.is_empty() {
            return state.infos.answer(request);
        }
        state
            .info
            .clone()
            .map_or_else(missing, |info| Ok(Response::new(info)))
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Answer<UnloadModelResponse> {
        let mut state = self.state();
        state.unload_requests.push(request.into_inner());
        state
            .unload
            .clone()
            .map_or_else(missing, |unload| Ok(Response::new(unload)))
    }

    async fn switch_model(
        &self,
        request: Request<SwitchModelRequest>,
    ) -> Answer<SwitchModelResponse> {
        self.state().switches.answer(request)
    }
}

#[tonic::async_trait]
impl InferenceService for Script {
    type GenerateStream = Answered<GenerateResponse>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Answer<Self::GenerateStream> {
        let mut state = self.state();
        state.generate_requests.push(request.into_inner());
        let end = stream::iter(state.generate_end.take()).filter_map(async |end| {
            // Its sender is kept or has sent.
            let _ = end.await;
            None
        });
        let events = stream::iter(std::mem::take(&mut state.generate));
        Ok(Response::new(Box::pin(events.chain(end))))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Answer<EmbedResponse> {
        self.state().embeds.answer(request)
    }

    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Answer<TokenizeResponse> {
        let token_ids = request.into_inner().text.bytes().map(u32::from).collect();
        Ok(Response::new(TokenizeResponse {
            token_ids,
            ..Default::default()
        }))
    }

    async fn detokenize(&self, _: Request<DetokenizeRequest>) -> Answer<DetokenizeResponse> {
        missing()
    }
}

pub(crate) fn snapshot(
    token: &str,
    model: &str,
    complete: bool,
) -> Result<WatchStatusResponse, Status> {
    let models = vec![ModelStatus {
        model_id: model.to_owned(),
        ..Default::default()
    }];
    let snapshot = StatusSnapshot {
        models,
        reset: false,
        complete,
    };
    Ok(WatchStatusResponse {
        resume_token: token.to_owned(),
        event: Some(Event::Snapshot(snapshot)),
    })
}

pub(crate) fn changed(
    kind: ChangeKind,
    revision: u64,
    state: ModelState,
) -> Result<WatchStatusResponse, Status> {
    let status = ModelStatus {
        model_id: "m".to_owned(),
        state: state.into(),
        generation: revision,
        ..Default::default()
    };
    let changed = ModelChanged {
        revision,
        kind: kind.into(),
        status: Some(status),
        ..Default::default()
    };
    Ok(WatchStatusResponse {
        resume_token: format!("t{revision}"),
        event: Some(Event::Changed(changed)),
    })
}

pub(crate) fn transition(revision: u64) -> Result<WatchStatusResponse, Status> {
    changed(ChangeKind::Transition, revision, ModelState::Loading)
}

/// The switch `id` of the alias "chat" from "old" to "m".
pub(crate) fn switch(id: &str, outcome: SwitchOutcome) -> SwitchInfo {
    SwitchInfo {
        switch_id: id.to_owned(),
        alias: "chat".to_owned(),
        from_model_id: "old".to_owned(),
        to_model_id: "m".to_owned(),
        outcome: outcome.into(),
        ..Default::default()
    }
}

pub(crate) fn switched(revision: u64, switch: SwitchInfo) -> Result<WatchStatusResponse, Status> {
    let switched = SwitchChanged {
        revision,
        switch: Some(switch),
    };
    Ok(WatchStatusResponse {
        resume_token: format!("t{revision}"),
        event: Some(Event::Switched(switched)),
    })
}

pub(crate) fn refused(code: Code, reason: &str) -> Status {
    let info = ErrorDetails::with_error_info(reason, "hangar.v1", HashMap::new());
    Status::with_error_details(code, "refused", info)
}

pub(crate) fn load(state: ModelState) -> ModelLoad {
    let status = ModelStatus {
        model_id: "m".to_owned(),
        state: state.into(),
        ..Default::default()
    };
    ModelLoad {
        model_id: "m".to_owned(),
        status: Some(status),
        ..Default::default()
    }
}
