//! Client of Hangar, a gRPC service that hosts mistral.rs engines and manages their life.

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
