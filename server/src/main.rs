//! `hangar`: the server's command line.

use hangar_worker_protocol::processor;

pub(crate) fn main() {
    processor::require();
    run();
}

// Not a part of `main`, which may only do what every processor can.
#[inline(never)]
#[tokio::main]
async fn run() {
    let status = hangar_server::run().await;
    // Nothing that is stuck may hold the process up, not even in being dropped. Workers end with it.
    std::process::exit(i32::from(status))
}
