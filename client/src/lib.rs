//! Client of Hangar, a gRPC service that hosts mistral.rs engines and manages their life.
//!
//! [`Client`] covers the main job: load a model and watch it load, ask about it, use it, unload it.
//! The generated stubs in [`v1`] cover everything else; [`Client::model_service`] and
//! [`Client::inference_service`] give them on the same connection.
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

mod call;
mod client;
pub mod convert;
mod error;
mod generate;
mod info;
mod load;
mod tokens;
mod trace;
mod unload;
mod watch;

pub use client::{Builder, Client};
pub use error::{Details, Error, Refusal, Violation};
pub use generate::{Completion, Generate, GenerateEvent, GenerateStream};
pub use info::Info;
pub use load::{Load, LoadAll};
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

/// Generated messages and stubs of `hangar.worker.v1`, between the server and its workers.
///
/// Private: it changes without notice.
#[cfg(feature = "worker")]
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod worker {
    /// Generated messages and stubs of `hangar.worker.v1`.
    pub mod v1 {
        include!("gen/hangar.worker.v1.rs");
    }
}
