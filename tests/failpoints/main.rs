//! `hangar`, built with failpoints.

extern crate hangar_failpoints as hangar_server;

#[path = "../../server/src/main.rs"]
mod hangar;

fn main() {
    hangar::main();
}
