//! The fields of a spec, for tests that want each of them to be seen to.

use prost::Message;
use prost_types::FileDescriptorSet;

use crate::v1::FILE_DESCRIPTOR_SET;

/// Their names, in the order of the proto.
pub(super) fn spec_fields() -> Vec<String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let mut messages = files.iter().flat_map(|file| &file.message_type);
    let spec = messages
        .find(|message| message.name() == "ModelSpec")
        .unwrap();
    let fields = spec.field.iter().map(|field| field.name().to_owned());
    fields.collect()
}
