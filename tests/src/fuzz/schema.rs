//! What a server offers, by its own words.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use prost_types::FileDescriptorProto;
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// All methods of the server at `url`.
///
/// # Errors
///
/// When reflection does not list them, or not in full.
pub(super) async fn read(url: &str) -> Result<Vec<MethodDescriptor>> {
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let mut client = ServerReflectionClient::new(channel);
    let list = MessageRequest::ListServices(String::new());
    let MessageResponse::ListServicesResponse(services) = ask(&mut client, list).await? else {
        anyhow::bail!("no list of services");
    };
    let mut files = BTreeMap::new();
    for service in &services.service {
        let symbol = MessageRequest::FileContainingSymbol(service.name.clone());
        let mut missing = add(&mut files, ask(&mut client, symbol).await?)?;
        while let Some(name) = missing.pop_first() {
            let file = ask(&mut client, MessageRequest::FileByFilename(name)).await?;
            missing.append(&mut add(&mut files, file)?);
            missing.retain(|name| !files.contains_key(name));
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files.into_values())?;
    let methods: Vec<_> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    anyhow::ensure!(methods.len() > 30, "only {} methods", methods.len());
    Ok(methods)
}

/// Adds the files of a response, and gives the names of those that they import and that are not there.
fn add(
    files: &mut BTreeMap<String, FileDescriptorProto>,
    response: MessageResponse,
) -> Result<BTreeSet<String>> {
    let MessageResponse::FileDescriptorResponse(response) = response else {
        anyhow::bail!("no file: {response:?}");
    };
    let mut wanted = BTreeSet::new();
    for file in response.file_descriptor_proto {
        let file = FileDescriptorProto::decode(file.as_slice())?;
        wanted.extend(file.dependency.iter().cloned());
        files.insert(file.name().to_owned(), file);
    }
    wanted.retain(|name| !files.contains_key(name));
    Ok(wanted)
}

async fn ask(
    client: &mut ServerReflectionClient<Channel>,
    request: MessageRequest,
) -> Result<MessageResponse> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await?;
    let answer = answers.into_inner().message().await?.context("no answer")?;
    answer.message_response.context("an empty answer")
}
