//! Server reflection: lets tools describe and call every service without a proto file.
//!
//! Both versions of the protocol serve the same files: `hangar.v1`, the Open Inference Protocol, health, reflection itself, and the
//! error details of `google.rpc`, which tools need to show error details in words.

use tonic_reflection::server::{Builder, Error};
use tonic_reflection::server::{v1, v1alpha};

/// Reflection as `grpc.reflection.v1.ServerReflection`.
///
/// # Errors
/// When a built-in descriptor set is malformed, which a test rules out.
pub fn v1() -> Result<v1::ServerReflectionServer<impl v1::ServerReflection>, Error> {
    builder().build_v1()
}

/// Reflection as `grpc.reflection.v1alpha.ServerReflection`, for older tools.
///
/// # Errors
/// When a built-in descriptor set is malformed, which a test rules out.
pub fn v1alpha() -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error> {
    builder().build_v1alpha()
}

/// A file that is in more than one set is registered once: the builder keeps the first of a name.
fn builder() -> Builder<'static> {
    Builder::configure()
        .include_reflection_service(false)
        .register_encoded_file_descriptor_set(hangar_client::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(hangar_client::inference::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use prost::Message;
    use prost_types::FileDescriptorProto;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    use super::*;

    async fn ask(request: MessageRequest) -> MessageResponse {
        let mut client = ServerReflectionClient::new(v1().unwrap());
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let requests = futures::stream::iter([request]);
        let responses = client.server_reflection_info(requests).await.unwrap();
        let response = responses.into_inner().next().await.unwrap().unwrap();
        response.message_response.unwrap()
    }

    #[tokio::test]
    async fn lists_every_service_once() {
        let request = MessageRequest::ListServices(String::new());
        let MessageResponse::ListServicesResponse(list) = ask(request).await else {
            panic!("no list");
        };
        let mut names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "hangar.v1.CatalogService",
                "hangar.v1.InferenceService",
                "hangar.v1.ModelService",
                "hangar.v1.SessionService",
                "inference.GRPCInferenceService",
            ]
        );
    }

    #[tokio::test]
    async fn describes_every_service_and_error_detail_with_all_imports() {
        for symbol in [
            "hangar.v1.ModelService",
            "hangar.v1.InferenceService",
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
            "google.rpc.Status",
            "google.rpc.ErrorInfo",
            "google.rpc.RetryInfo",
            "google.rpc.BadRequest",
            "google.rpc.QuotaFailure",
            "google.rpc.PreconditionFailure",
            "google.rpc.ResourceInfo",
        ] {
            let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
            while let Some(request) = wanted.pop() {
                let shown = format!("{request:?}");
                let MessageResponse::FileDescriptorResponse(files) = ask(request).await else {
                    panic!("{symbol}: {shown} is not described");
                };
                for bytes in files.file_descriptor_proto {
                    let file = FileDescriptorProto::decode(bytes.as_slice()).unwrap();
                    wanted.extend(
                        file.dependency
                            .into_iter()
                            .map(MessageRequest::FileByFilename),
                    );
                }
            }
        }
    }

    #[test]
    fn the_older_version_can_be_built() {
        assert!(v1alpha().is_ok());
    }
}
