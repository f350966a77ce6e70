//! `hangar`: the server's command line.

#[tokio::main]
pub(crate) async fn main() {
    let status = hangar_server::run().await;
    // Nothing that is stuck may hold the process up, not even in being dropped. Workers end with it.
    std::process::exit(i32::from(status))
}
