//! The catalog of a script.

use hangar_client::v1::{
    CreateModelRequest, CreateModelResponse, DeleteModelRequest, DeleteModelResponse,
    GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse, UpdateModelRequest,
    UpdateModelResponse, catalog_service_server::CatalogService,
};
use tonic::Request;

use super::{Answer, Asked, Script};

#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) creates: Asked<CreateModelRequest, CreateModelResponse>,
    pub(crate) gets: Asked<GetModelRequest, GetModelResponse>,
    pub(crate) lists: Asked<ListModelsRequest, ListModelsResponse>,
    pub(crate) updates: Asked<UpdateModelRequest, UpdateModelResponse>,
    pub(crate) deletes: Asked<DeleteModelRequest, DeleteModelResponse>,
}

#[tonic::async_trait]
impl CatalogService for Script {
    async fn create_model(
        &self,
        request: Request<CreateModelRequest>,
    ) -> Answer<CreateModelResponse> {
        self.state().catalog.creates.answer(request)
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Answer<GetModelResponse> {
        self.state().catalog.gets.answer(request)
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Answer<ListModelsResponse> {
        self.state().catalog.lists.answer(request)
    }

    async fn update_model(
        &self,
        request: Request<UpdateModelRequest>,
    ) -> Answer<UpdateModelResponse> {
        self.state().catalog.updates.answer(request)
    }

    async fn delete_model(
        &self,
        request: Request<DeleteModelRequest>,
    ) -> Answer<DeleteModelResponse> {
        self.state().catalog.deletes.answer(request)
    }
}
