//! Clients that ask for too much, or take too little: they harm nobody else.

mod memory;
mod multiplied;
mod pipelined;
mod unread;

use hangar_tests::server::TestServerBuilder;

const STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// With memory for three requests of 7 MiB, were it not for what the last one needs while it is read.
fn with_little_memory(options: TestServerBuilder) -> TestServerBuilder {
    options
        .argument("--max-request-bytes")
        .argument("8MiB")
        .argument("--max-request-memory")
        .argument("24MiB")
}
