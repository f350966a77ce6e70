//! Messages as canonical protobuf JSON, by way of the embedded descriptors.

use std::sync::OnceLock;

use hangar_client::v1;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::FileDescriptorSet;
use serde_json::{Deserializer, Serializer, ser::PrettyFormatter};

use crate::failure::Failure;

/// The message `name`, for example "hangar.v1.ModelSpec", as JSON.
pub(crate) fn to_string<M: Message>(
    name: &str,
    message: &M,
    pretty: bool,
) -> Result<String, Failure> {
    let message = DynamicMessage::decode(descriptor(name)?, message.encode_to_vec().as_slice())
        .map_err(message_of)?;
    let options = SerializeOptions::new();
    let mut bytes = Vec::new();
    if pretty {
        let formatter = PrettyFormatter::with_indent(b"  ");
        let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
        message
            .serialize_with_options(&mut serializer, &options)
            .map_err(message_of)?;
    } else {
        message
            .serialize_with_options(&mut Serializer::new(&mut bytes), &options)
            .map_err(message_of)?;
    }
    String::from_utf8(bytes).map_err(message_of)
}

/// The message `name` from JSON; unknown fields are refused.
pub(crate) fn from_str<M: Message + Default>(name: &str, json: &str) -> Result<M, Failure> {
    let wrong = |error: serde_json::Error| Failure::Usage(format!("this is no {name}: {error}"));
    let mut deserializer = Deserializer::from_str(json);
    let message =
        DynamicMessage::deserialize(descriptor(name)?, &mut deserializer).map_err(wrong)?;
    deserializer.end().map_err(wrong)?;
    message.transcode_to().map_err(message_of)
}

/// The message `name` from TOML with the names of protobuf JSON; unknown fields are refused.
pub(crate) fn from_toml<M: Message + Default>(name: &str, text: &str) -> Result<M, Failure> {
    let value: serde_json::Value = toml::from_str(text)
        .map_err(|error| Failure::Usage(format!("this is no TOML: {error}")))?;
    from_str(name, &value.to_string())
}

/// A value for a variable: JSON, or else the text itself.
pub(crate) fn value(text: &str) -> prost_types::Value {
    let plain = || serde_json::Value::String(text.to_owned());
    to_value(serde_json::from_str(text).unwrap_or_else(|_| plain()))
}

fn to_value(json: serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    match json {
        serde_json::Value::Null => Kind::NullValue(0).into(),
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(value) => value.as_f64().unwrap_or_default().into(),
        serde_json::Value::String(value) => value.into(),
        serde_json::Value::Array(values) => {
            values.into_iter().map(to_value).collect::<Vec<_>>().into()
        }
        serde_json::Value::Object(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name, to_value(value)));
            fields.collect::<std::collections::BTreeMap<_, _>>().into()
        }
    }
}

fn descriptor(name: &str) -> Result<MessageDescriptor, Failure> {
    pool()?
        .get_message_by_name(name)
        .ok_or_else(|| Failure::Message(format!("there is no message {name}")))
}

fn pool() -> Result<&'static DescriptorPool, Failure> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    POOL.get_or_init(build).as_ref().map_err(message_of)
}

/// Hangar's messages, and the details of errors, which an item of `all` may carry.
fn build() -> Result<DescriptorPool, String> {
    let mut pool =
        DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    let details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET);
    let details = details.map_err(|error| error.to_string())?.file;
    for file in details {
        let known = |name: &str| {
            pool.get_message_by_name(&format!("{}.{name}", file.package()))
                .is_some()
        };
        if !file
            .message_type
            .iter()
            .any(|message| known(message.name()))
        {
            // What cannot be added is shown without its content, which is no reason to fail.
            let _ = pool.add_file_descriptor_proto(file);
        }
    }
    Ok(pool)
}

fn message_of(error: impl ToString) -> Failure {
    Failure::Message(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn text<M: Message>(name: &str, message: &M) -> String {
        to_string(name, message, false).unwrap_or_else(|_| panic!("{name} does not serialize"))
    }

    #[bounded::test]
    fn names_are_those_of_protobuf_json() {
        let status = v1::ModelStatus {
            model_id: "m".to_owned(),
            state: v1::ModelState::Ready.into(),
            generation: 7,
            ..Default::default()
        };
        let json = text("hangar.v1.ModelStatus", &status);
        assert_eq!(
            json,
            r#"{"modelId":"m","state":"MODEL_STATE_READY","generation":"7"}"#
        );
    }

    #[bounded::test]
    fn the_details_of_an_error_are_printed() {
        let details = ErrorDetails::with_error_info("MODEL_HELD", "hangar.v1", HashMap::new());
        let status =
            tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "held", details);
        let status = tonic_types::Status::decode(status.details()).unwrap();
        let load = v1::ModelLoad {
            error: Some(status),
            ..Default::default()
        };
        assert!(text("hangar.v1.ModelLoad", &load).contains(r#""reason":"MODEL_HELD""#));
    }

    #[bounded::test]
    fn a_spec_is_read_and_a_wrong_one_refused() {
        let name = "hangar.v1.ModelSpec";
        let spec: Option<v1::ModelSpec> =
            from_str(name, r#"{"source":{"demo":{}},"context_length":9}"#).ok();
        assert_eq!(spec.map(|spec| spec.context_length), Some(9));
        for wrong in ["{", r#"{"sauce":{}}"#, "{} {}"] {
            assert!(from_str::<v1::ModelSpec>(name, wrong).is_err(), "{wrong}");
        }
    }

    #[bounded::test]
    fn a_spec_is_read_from_toml() {
        let name = "hangar.v1.ModelSpec";
        let text = "context_length = 9\nidle_timeout = \"60s\"\n\n[source]\npath = \"/m\"\n\n\
                    [labels]\n\"a.b\" = \"c\"\n";
        let spec: v1::ModelSpec = from_toml(name, text).unwrap_or_else(|_| panic!("no spec"));
        assert_eq!(spec.context_length, 9);
        assert_eq!(spec.idle_timeout.map(|timeout| timeout.seconds), Some(60));
        assert_eq!(spec.labels.get("a.b").map(String::as_str), Some("c"));
        for wrong in ["[", "sauce = 1", "context_length = \"many\""] {
            assert!(from_toml::<v1::ModelSpec>(name, wrong).is_err(), "{wrong}");
        }
    }
}
