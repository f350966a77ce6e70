//! `hangar`: the server's command line.

use hangar_worker_protocol::processor;

pub(crate) fn main() {
    processor::require();
    run();
}

// Not a part of `main`, which may only do what every processor can.
#[inline(never)]
fn run() {
    hangar_server::run();
}
