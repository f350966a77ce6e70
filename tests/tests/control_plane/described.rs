//! What the server says of its API by reflection, in both versions of the protocol: every call, field and value with
//! words.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use hangar_tests::{scripted::Script, server::TestServer};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tonic::transport::{Channel, Endpoint};

/// Largest set of descriptors of the public API, in bytes: they are in every server and client.
const MAX_BYTES: usize = 160 << 10;

/// Asks for a file, in one version of the protocol.
macro_rules! file {
    ($version:ident, $channel:expr, $name:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileByFilename($name.to_owned())),
        };
        let mut client = ServerReflectionClient::new($channel.clone());
        let requests = stream::iter([request]);
        let mut answers = client.server_reflection_info(requests).await?.into_inner();
        let answer = answers.next().await.context("no answer")??;
        match answer.message_response {
            Some(MessageResponse::FileDescriptorResponse(mut files)) => {
                files.file_descriptor_proto.pop().context("no file")?
            }
            other => anyhow::bail!("{other:?}"),
        }
    }};
}

/// The names of a file's parts by their paths, as its source information has them.
fn parts(file: &FileDescriptorProto) -> BTreeMap<Vec<i32>, String> {
    let mut parts = BTreeMap::new();
    for (n, message) in (0..).zip(&file.message_type) {
        add_message(&mut parts, vec![4, n], message);
    }
    for (n, choice) in (0..).zip(&file.enum_type) {
        add_enum(&mut parts, vec![5, n], choice);
    }
    for (n, service) in (0..).zip(&file.service) {
        parts.insert(vec![6, n], service.name().to_owned());
        for (m, method) in (0..).zip(&service.method) {
            parts.insert(vec![6, n, 2, m], method.name().to_owned());
        }
    }
    parts
}

fn add_message(parts: &mut BTreeMap<Vec<i32>, String>, path: Vec<i32>, message: &DescriptorProto) {
    let below = |field, n| [path.clone(), vec![field, n]].concat();
    let name = message.name();
    for (n, field) in (0..).zip(&message.field) {
        parts.insert(below(2, n), format!("{name}.{}", field.name()));
    }
    for (n, choice) in (0..).zip(&message.oneof_decl) {
        // A field that may be unset is one of one, which nobody has written.
        let written = message
            .field
            .iter()
            .any(|field| field.oneof_index == Some(n) && !field.proto3_optional());
        if written {
            parts.insert(below(8, n), format!("{name}.{}", choice.name()));
        }
    }
    for (n, nested) in (0..).zip(&message.nested_type) {
        let entry = nested.options.as_ref().is_some_and(|it| it.map_entry());
        if !entry {
            add_message(parts, below(3, n), nested);
        }
    }
    for (n, choice) in (0..).zip(&message.enum_type) {
        add_enum(parts, below(4, n), choice);
    }
    parts.insert(path, name.to_owned());
}

fn add_enum(parts: &mut BTreeMap<Vec<i32>, String>, path: Vec<i32>, choice: &EnumDescriptorProto) {
    for (n, value) in (0..).zip(&choice.value) {
        let path = [path.clone(), vec![2, n]].concat();
        parts.insert(path, value.name().to_owned());
    }
    parts.insert(path, choice.name().to_owned());
}

async fn channel(server: &TestServer) -> Result<Channel> {
    Ok(Endpoint::from_shared(server.url())?.connect().await?)
}

#[hangar_tests::test]
async fn every_part_of_the_api_has_a_comment() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let channel = channel(&server).await?;
    let mut bytes = 0;
    let files = FileDescriptorSet::decode(hangar_client::v1::FILE_DESCRIPTOR_SET)?.file;
    let own = files.iter().map(FileDescriptorProto::name);
    let own: Vec<_> = own.filter(|name| name.starts_with("hangar/")).collect();
    assert!(own.len() > 5, "{own:?}");
    for name in own {
        let described = file!(v1, channel, name);
        assert_eq!(described, file!(v1alpha, channel, name), "{name}");
        bytes += described.len();
        let file = FileDescriptorProto::decode(&*described)?;
        let source = file.source_code_info.clone().context("no words")?;
        let words: BTreeMap<_, _> = source
            .location
            .into_iter()
            .map(|it| (it.path, it.leading_comments.unwrap_or_default()))
            .collect();
        assert!(words.values().all(|words| !words.is_empty()), "{name}");
        for (path, part) in parts(&file) {
            let reported = words.get(&path).map(|words| words.trim());
            assert!(
                reported.is_some_and(|reported| reported.len() > 4),
                "{name}: {part}"
            );
        }
    }
    assert!(bytes < MAX_BYTES, "{bytes}");
    Ok(())
}
