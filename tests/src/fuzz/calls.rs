//! Random calls: messages as they should be and as they should not, and the same of what carries them.

use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use hangar_client::v1::{ChatMessage, GenerateRequest};
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use prost_types::{Struct, Value, value::Kind};

use super::{
    ids::{changes, spare},
    messages::MessageMaker,
    words::{bytes, text},
};
use crate::raw::{RawCall, frame};

/// Bytes of all texts of a message: a text of 1 MB fits in.
const BUDGET: usize = 1_500_000;

/// The method that takes most.
const GENERATE: &str = "hangar.v1.InferenceService.Generate";

/// Makes calls.
pub(super) struct RandomCalls {
    methods: Vec<MethodDescriptor>,
    generate: usize,
    path: String,
}

impl RandomCalls {
    /// Calls of `methods`; a model is at `path`.
    pub(super) fn new(methods: Vec<MethodDescriptor>, path: String) -> Result<Self> {
        let is_generate = |method: &MethodDescriptor| method.full_name() == GENERATE;
        let generate = methods
            .iter()
            .position(is_generate)
            .context("no Generate")?;
        Ok(Self {
            methods,
            generate,
            path,
        })
    }

    /// The next call.
    pub(super) fn next(&self, rng: &mut Rng) -> RawCall {
        let method = match rng.u8(..8) {
            0 => &self.methods[self.generate],
            _ => &self.methods[rng.usize(..self.methods.len())],
        };
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut call = RawCall::of(&path, &self.message(rng, method));
        if method.is_client_streaming() {
            let more: Vec<_> = (0..rng.usize(..3))
                .map(|_| frame(&self.message(rng, method)))
                .collect();
            call.body = [&call.body[..], &more.concat()].concat().into();
        }
        let time = Duration::from_millis(rng.u64(1..1500));
        // A change of bytes could name a watched model in a call that may unload it.
        let call = match rng.u8(..10) {
            0 if !changes(method.name()) => spoil(rng, call),
            _ => call,
        };
        call.within(time)
    }

    fn message(&self, rng: &mut Rng, method: &MethodDescriptor) -> Vec<u8> {
        if method.full_name() == GENERATE && rng.bool() {
            return refused(rng).encode_to_vec();
        }
        let changes = changes(method.name());
        let mut maker = MessageMaker {
            rng,
            budget: BUDGET,
            path: &self.path,
        };
        let mut message = maker.message(&method.input(), 0);
        if changes {
            spare(rng, &mut message);
        }
        let encoded = message.encode_to_vec();
        if rng.u8(..3) > 0 {
            return encoded;
        }
        let mutated = mutate(rng, encoded);
        if !changes {
            return mutated;
        }
        match DynamicMessage::decode(method.input(), mutated.as_slice()) {
            Ok(mut message) => {
                spare(rng, &mut message);
                message.encode_to_vec()
            }
            Err(_) => mutated,
        }
    }
}

/// A request that the hostile template refuses with words of the caller.
fn refused(rng: &mut Rng) -> GenerateRequest {
    let mut space = BUDGET;
    let mut request = GenerateRequest {
        model_id: "hostile".to_owned(),
        messages: vec![ChatMessage {
            role: "user".to_owned(),
            content: format!("refuse {}", text(rng, &mut space)),
            ..ChatMessage::default()
        }],
        ..GenerateRequest::default()
    };
    if rng.bool() {
        let effort = Value {
            kind: Some(Kind::StringValue(text(rng, &mut space))),
        };
        request.chat_template_options = Some(Struct {
            fields: [("reasoning_effort".to_owned(), effort)].into(),
        });
    }
    request
}

/// Other bytes, not far from these.
fn mutate(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.usize(1..8) {
        if bytes.is_empty() {
            bytes.push(rng.u8(..));
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..5) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = rng.u8(..),
            2 => bytes.insert(at, rng.u8(..)),
            3 => bytes.truncate(at),
            _ => {
                let end = (at + rng.usize(..64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

/// A call that breaks the rules of the protocol.
fn spoil(rng: &mut Rng, mut call: RawCall) -> RawCall {
    match rng.u8(..10) {
        0 => call.path = format!("{}X", call.path),
        1 => call.path = format!("/no.such.Service{}/Method", rng.u8(..)),
        2 => return call.header("grpc-encoding", "snappy"),
        3 => return call.header("grpc-timeout", "soon"),
        4 => {
            // Said to be compressed, without saying how.
            call.body = [&[1], &call.body[1..]].concat().into();
        }
        5 => {
            call.body = [&[1], &call.body[1..]].concat().into();
            return call.header("grpc-encoding", if rng.bool() { "gzip" } else { "zstd" });
        }
        6 => call.body = bytes(rng, &mut 10_000).into(),
        7 => call.body = call.body.slice(..call.body.len() / 2),
        8 => {
            call.body = [&[0][..], &rng.u32(..).to_be_bytes(), b"short"]
                .concat()
                .into()
        }
        _ => call.body = Default::default(),
    }
    call
}
