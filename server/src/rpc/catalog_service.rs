//! CatalogService: parses requests, asks the fleet, converts answers.

mod changes;
mod list;
mod mask;
mod message;
mod page_token;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use hangar_client::v1::{
    CreateModelRequest, CreateModelResponse, DeleteModelRequest, DeleteModelResponse,
    GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse, UpdateModelRequest,
    UpdateModelResponse, catalog_service_server::CatalogService,
};
use tonic::{Request, Response, Status};

use super::{
    error::ApiError,
    request_ids::{RequestIds, remembered},
    validate::Violations,
};
use crate::lifecycle::Fleet;

/// Implements CatalogService.
#[derive(Debug)]
pub struct CatalogApi {
    handlers: CatalogHandlers,
    creates: RequestIds<CreateModelResponse>,
    updates: RequestIds<UpdateModelResponse>,
    deletes: RequestIds<DeleteModelResponse>,
}

/// What calls work with.
#[derive(Clone)]
struct CatalogHandlers {
    fleet: Arc<Fleet>,
}

impl CatalogApi {
    /// Serves the catalog of `fleet`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let (catalog, tasks) = (fleet.catalog().clone(), fleet.tasks());
        Self {
            creates: RequestIds::new("CreateModel", catalog.clone(), tasks.clone()),
            updates: RequestIds::new("UpdateModel", catalog.clone(), tasks.clone()),
            deletes: RequestIds::new("DeleteModel", catalog, tasks),
            handlers: CatalogHandlers { fleet },
        }
    }
}

#[tonic::async_trait]
impl CatalogService for CatalogApi {
    async fn create_model(
        &self,
        request: Request<CreateModelRequest>,
    ) -> Result<Response<CreateModelResponse>, Status> {
        let request = request.into_inner();
        let id = remembered(&request.request_id, request.validate_only);
        let body = request.clone();
        let handlers = self.handlers.clone();
        let work = move |identity| response(async move { handlers.create(body, identity).await });
        let response = self.creates.once_with(id, &request, work).await?;
        Ok(Response::new(response))
    }

    async fn get_model(
        &self,
        request: Request<GetModelRequest>,
    ) -> Result<Response<GetModelResponse>, Status> {
        Ok(Response::new(
            self.handlers.get(request.into_inner()).await?,
        ))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(
            self.handlers.list(request.into_inner()).await?,
        ))
    }

    async fn update_model(
        &self,
        request: Request<UpdateModelRequest>,
    ) -> Result<Response<UpdateModelResponse>, Status> {
        let request = request.into_inner();
        let id = remembered(&request.request_id, request.validate_only);
        let body = request.clone();
        let handlers = self.handlers.clone();
        let work = move |identity| response(async move { handlers.update(body, identity).await });
        let response = self.updates.once_with(id, &request, work).await?;
        Ok(Response::new(response))
    }

    async fn delete_model(
        &self,
        request: Request<DeleteModelRequest>,
    ) -> Result<Response<DeleteModelResponse>, Status> {
        let request = request.into_inner();
        let body = request.clone();
        let handlers = self.handlers.clone();
        let work = move |identity| response(async move { handlers.delete(body, identity).await });
        let response = self
            .deletes
            .once_with(&request.request_id, &request, work)
            .await?;
        Ok(Response::new(response))
    }
}

impl CatalogHandlers {
    async fn get(&self, request: GetModelRequest) -> Result<GetModelResponse, ApiError> {
        let mut violations = Violations::default();
        let id = violations.model_id("model_id", &request.model_id);
        violations.finish()?;
        let Some(id) = id else {
            return Err(ApiError::invalid("model_id", "is required"));
        };
        let entry = self.fleet.find(&id).await?;
        let not_modified = entry.etag.0 == request.if_none_match;
        Ok(GetModelResponse {
            model: (!not_modified).then(|| message::model(&entry)),
            not_modified,
        })
    }
}

impl std::fmt::Debug for CatalogHandlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogHandlers").finish_non_exhaustive()
    }
}

fn response<T>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, Status>> {
    async move { Ok(work.await?) }.boxed()
}
