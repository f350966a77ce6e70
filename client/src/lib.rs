//! Client of Hangar, a gRPC service that hosts mistral.rs engines and manages their life.
//!
//! [`Client`] covers the main jobs: load a model and watch it load, ask about it, use it, unload it;
//! keep the catalog of models; switch an alias from one model to another; hold models for as long as a
//! client lives. The generated stubs in [`v1`] cover everything else; [`Client::model_service`] and its
//! like give them on the same connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), hangar_client::Error> {
//! use hangar_client::Client;
//!
//! let client = Client::connect("http://127.0.0.1:50051").await?;
//! client.load("demo").demo().wait().await?;
//! let answer = client.generate("demo").message("user", "What is Hangar?").text().await?;
//! println!("{}", answer.text);
//! client.unload("demo").send().await?;
//! # Ok(())
//! # }
//! ```
#![warn(unnameable_types)]

mod call;
mod catalog;
mod client;
pub mod convert;
mod embed;
mod error;
mod generate;
mod info;
mod load;
mod redacted;
#[cfg(feature = "server")]
pub mod server_codec;
mod session;
#[cfg(feature = "server")]
pub mod status;
mod switch;
mod tokens;
mod trace;
mod unload;
mod watch;

pub use catalog::{
    CreateModel, DeleteModel, EditModel, Freshness, GetModel, GetModelIfChanged, ListModels,
    ModelStream, UpdateModel,
};
pub use client::{Builder, Client};
pub use embed::Embed;
pub use error::{Details, ERROR_DOMAIN, Error, Refusal, SwitchFailure, Violation, code_name};
pub use generate::{Completion, Generate, GenerateEvent, GenerateStream};
pub use info::Info;
pub use load::{Load, LoadAll};
pub use session::{Session, SessionHandle};
pub use switch::{Switch, Switching};
pub use tokens::{Detokenize, Tokenize};
pub use trace::{TraceContext, Transport};
pub use unload::{Unload, UnloadAll};
pub use watch::{Watch, WatchBuilder, WatchEvent};

/// The README's example is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Generated messages and stubs of `hangar.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod v1 {
    include!("gen/hangar.v1.rs");

    /// Encoded `google.protobuf.FileDescriptorSet` of `hangar.v1` and all that it imports.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/hangar.v1.bin");
}

/// Generated messages and stubs of the Open Inference Protocol with Triton's extensions, which Hangar serves too.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod inference {
    include!("gen/inference.rs");

    /// Encoded `google.protobuf.FileDescriptorSet` of `inference`.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/inference.bin");
}
