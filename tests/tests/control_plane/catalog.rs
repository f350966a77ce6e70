//! CatalogService: what is registered, and that it lasts.

mod configuration;
mod deletes;
mod entries;
mod files;
mod full;
mod lists;
mod loaded_models;
mod names;
mod repeats;
mod updates;

use std::{fmt::Debug, ops::Deref, path::Path};

use anyhow::{Context, Result};
use hangar_client::{
    Error, Refusal,
    v1::{
        CreateModelRequest, DeleteModelRequest, DemoSource, ErrorReason, GetModelRequest, Model,
        ModelSource, ModelSpec, UpdateModelRequest, catalog_service_client::CatalogServiceClient,
        model_source::Source,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    refusals,
    server::{TestServer, TestServerBuilder},
};
use prost_types::FieldMask;
use tonic::{Code, Status, transport::Channel};

type Catalog = CatalogServiceClient<Channel>;

/// A server and a client of its catalog.
struct CatalogServer {
    server: TestServer,
    catalog: Catalog,
}

impl Deref for CatalogServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl CatalogServer {
    async fn new() -> Result<Self> {
        Self::with(&TestServer::scripted()).await
    }

    async fn with(options: &TestServerBuilder) -> Result<Self> {
        let server = options.start().await?;
        Ok(Self {
            catalog: catalog(&server).await?,
            server,
        })
    }

    async fn create(&mut self, id: &str) -> Result<Model> {
        create(&mut self.catalog, id).await
    }

    async fn get(&mut self, id: &str) -> Result<Model, Status> {
        get(&mut self.catalog, id).await
    }

    async fn update(&mut self, request: UpdateModelRequest) -> Result<(Model, bool), Status> {
        let response = self.catalog.update_model(request).await?.into_inner();
        Ok((response.model.unwrap_or_default(), response.reload_required))
    }

    async fn delete(&mut self, id: &str, force: bool) -> Result<(), Status> {
        let request = DeleteModelRequest {
            model_id: id.to_owned(),
            force,
            ..DeleteModelRequest::default()
        };
        self.catalog.delete_model(request).await.map(drop)
    }
}

async fn catalog(server: &TestServer) -> Result<Catalog> {
    Ok(Catalog::connect(server.url()).await?)
}

async fn create(catalog: &mut Catalog, id: &str) -> Result<Model> {
    let response = catalog.create_model(new(id)).await?.into_inner();
    response.model.context("the new entry")
}

async fn get(catalog: &mut Catalog, id: &str) -> Result<Model, Status> {
    let request = GetModelRequest {
        model_id: id.to_owned(),
        ..GetModelRequest::default()
    };
    let response = catalog.get_model(request).await?.into_inner();
    Ok(response.model.unwrap_or_default())
}

/// A request for a model that is called `id` in all respects.
fn new(id: &str) -> CreateModelRequest {
    CreateModelRequest {
        model_id: id.to_owned(),
        spec: Some(named(id)),
        ..CreateModelRequest::default()
    }
}

/// As [`new`], with aliases.
fn aliased(id: &str, aliases: &[&str]) -> CreateModelRequest {
    CreateModelRequest {
        aliases: aliases.iter().map(ToString::to_string).collect(),
        ..new(id)
    }
}

fn demo() -> Option<ModelSource> {
    Some(Source::Demo(DemoSource {}).into())
}

fn from(path: &Path) -> Option<ModelSource> {
    Some(Source::Path(path.to_string_lossy().into_owned()).into())
}

fn named(name: &str) -> ModelSpec {
    ModelSpec {
        source: demo(),
        display_name: name.to_owned(),
        ..ModelSpec::default()
    }
}

/// A request that gives the fields of `paths` the values that `model` has, with its etag.
fn change(model: &Model, paths: &[&str]) -> UpdateModelRequest {
    let paths = paths.iter().map(ToString::to_string).collect();
    UpdateModelRequest {
        etag: model.etag.clone(),
        update_mask: Some(FieldMask { paths }),
        model: Some(model.clone()),
        ..UpdateModelRequest::default()
    }
}

/// `model` with another display name.
fn renamed(model: &Model, name: &str) -> UpdateModelRequest {
    let mut model = model.clone();
    model.spec.get_or_insert_default().display_name = name.to_owned();
    change(&model, &["spec.display_name"])
}

/// The server's refusal of a call: it has to have this code and this reason, and words for people.
#[track_caller]
fn refusal<T: Debug>(result: Result<T, Status>, code: Code, reason: ErrorReason) -> Refusal {
    let refused = result.map_err(|status| Error::Refused(Box::new(status.into())));
    refusals::refusal(refused, code, reason)
}

/// The fields that an INVALID_ARGUMENT/INVALID_FIELD of the server names, in its order.
#[track_caller]
fn wrong_fields<T: Debug>(result: Result<T, Status>) -> Vec<String> {
    refusals::wrong_fields(result.map_err(|status| Error::Refused(Box::new(status.into()))))
}
