//! A proxy that cuts connections at random.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Carries connections to a server and cuts each of them after a random number of bytes from there, or
/// a random time. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Cutter {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Cutter {
    /// Starts one; the same seed gives the same limits.
    pub(crate) async fn start(server: SocketAddr, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let bytes = random.u64(1..10_000);
                let time = Duration::from_micros(random.u64(1..30_000));
                connections.spawn(timeout(time, carry(client, server, bytes)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            _task: task,
        })
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Carries a connection until so many bytes came from the server. What comes of it is seen at both ends.
async fn carry(mut client: TcpStream, server: SocketAddr, bytes: u64) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let mut from_server = from_server.take(bytes);
    let up = copy(&mut from_client, &mut to_server);
    let down = copy(&mut from_server, &mut to_client);
    tokio::select! {
        _ = up => {}
        _ = down => {}
    }
}
