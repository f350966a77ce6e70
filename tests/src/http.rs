//! Plain HTTP/1.1, for the ops port.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::server::DEADLINE;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub head: String,
    /// Body.
    pub body: String,
}

/// Asks for a path, over a connection of its own.
///
/// # Errors
///
/// When there is no answer within [`DEADLINE`], or it is not HTTP/1.1.
pub async fn get(address: SocketAddr, path: &str) -> Result<HttpAnswer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(DEADLINE, exchange).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no headers")?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    Ok(HttpAnswer {
        status: status.context("not HTTP/1.1")?.parse()?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}
