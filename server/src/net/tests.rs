//! Tests over real sockets: versions, limits, and how connections end.

use futures::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::*;

const GRACE: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_hours(1);

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Server {
    /// Serves `/` and `/slow` with "here"; the second waits until what it sends away is used, which may be never.
    async fn start(options: ServeOptions) -> (Self, mpsc::Receiver<oneshot::Sender<()>>) {
        let (started, slow) = mpsc::channel(8);
        let router = axum::Router::new()
            .route("/", axum::routing::get(async || "here"))
            .route(
                "/slow",
                axum::routing::get(async move || {
                    let (end, ended) = oneshot::channel();
                    started.send(end).await.unwrap();
                    match ended.await {
                        Ok(()) => "here",
                        Err(_) => std::future::pending().await,
                    }
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let supervisor = Supervisor::default();
        let tasks = supervisor.tasks();
        let served = serve(supervisor, listener, router, options, stop.clone(), GRACE);
        let ended = tasks.isolated("server", served);
        (
            Self {
                address,
                stop,
                ended,
            },
            slow,
        )
    }

    async fn http2(&self) -> hyper::client::conn::http2::SendRequest<axum::body::Body> {
        self.connect().await.0
    }

    /// A client, and the task that ends with its connection.
    async fn connect(
        &self,
    ) -> (
        hyper::client::conn::http2::SendRequest<axum::body::Body>,
        JoinHandle<()>,
    ) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
                .await
                .unwrap();
        let connection = async { connection.await.unwrap_or_default() };
        let ended = Supervisor::default().tasks().isolated("client", connection);
        (sender, ended)
    }

    fn get(&self, path: &str) -> Request<axum::body::Body> {
        let uri = format!("http://{}{path}", self.address);
        Request::builder()
            .uri(uri)
            .body(axum::body::Body::empty())
            .unwrap()
    }
}

/// What a raw connection gets until its end after sending `text`.
async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[bounded::test]
async fn the_main_port_speaks_http2_only() {
    let (server, _slow) = Server::start(ServeOptions::main(8)).await;
    let response = server
        .http2()
        .await
        .send_request(server.get("/"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let answer = exchange(server.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}

#[bounded::test]
async fn the_ops_port_speaks_both_versions() {
    let (server, _slow) = Server::start(ServeOptions::ops(8)).await;
    let response = server
        .http2()
        .await
        .send_request(server.get("/"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(server.address, request).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"),
        "{answer}"
    );
}

#[bounded::test]
async fn stop_ends_idle_connections_at_once() {
    let (server, _slow) = Server::start(ServeOptions::main(8)).await;
    let mut client = server.http2().await;
    client.send_request(server.get("/")).await.unwrap();
    server.stop.cancel();
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[bounded::test]
async fn what_is_left_after_the_grace_is_dropped() {
    for options in [ServeOptions::main(8), ServeOptions::ops(8)] {
        let (server, mut slow) = Server::start(options).await;
        let mut client = server.http2().await;
        let request = client.send_request(server.get("/slow"));
        let silent = TcpStream::connect(server.address).await.unwrap();
        let stop = async {
            slow.recv().await.unwrap();
            server.stop.cancel();
        };
        let (answer, ()) = tokio::join!(request, stop);
        assert!(answer.is_err());
        server.ended.await.unwrap();
        drop(silent);
    }
}

#[bounded::test]
async fn a_connection_over_the_limit_waits_for_another_to_end() {
    let options = ServeOptions {
        yields_after: NEVER,
        ..ServeOptions::main(1)
    };
    let (server, _slow) = Server::start(options).await;
    let mut first = server.http2().await;
    first.send_request(server.get("/")).await.unwrap();
    let mut second = server.http2().await;
    let mut waiting = std::pin::pin!(second.send_request(server.get("/")));
    // Whatever the first one gets answered, the second one is not served meanwhile.
    for _ in 0..10 {
        first.send_request(server.get("/")).await.unwrap();
        assert!(futures::poll!(waiting.as_mut()).is_pending());
    }
    drop(first);
    assert_eq!(waiting.await.unwrap().status(), 200);
}

#[bounded::test]
async fn a_connection_without_streams_is_closed_and_one_with_a_stream_is_not() {
    let options = ServeOptions {
        max_idle: SOON,
        ..ServeOptions::main(8)
    };
    let (server, mut slow) = Server::start(options).await;
    let (mut busy, mut running) = loop {
        let mut busy = server.http2().await;
        let mut running = Box::pin(busy.send_request(server.get("/slow")));
        tokio::select! {
            Some(end) = slow.recv() => drop(end),
            // It was closed before the request came.
            _ = running.as_mut() => continue,
        }
        // Or at that moment: then the first answer comes after GOAWAY, and no second one.
        let mut answers = true;
        for _ in 0..2 {
            answers &= busy.send_request(server.get("/")).await.is_ok();
        }
        if answers {
            break (busy, running);
        }
    };
    // This one's time begins after the other one's has.
    let (mut idle, ended) = server.connect().await;
    ended.await.unwrap();
    assert!(idle.send_request(server.get("/")).await.is_err());
    assert!(futures::poll!(running.as_mut()).is_pending());
    assert_eq!(
        busy.send_request(server.get("/")).await.unwrap().status(),
        200
    );
}

#[bounded::test]
async fn a_connection_that_is_old_gets_no_new_streams_and_keeps_those_that_it_has() {
    let options = ServeOptions {
        max_age: SOON,
        ..ServeOptions::main(8)
    };
    let (server, mut slow) = Server::start(options).await;
    let (mut client, end, running) = loop {
        let mut client = server.http2().await;
        let mut running = Box::pin(client.send_request(server.get("/slow")));
        tokio::select! {
            Some(end) = slow.recv() => break (client, end, running),
            // It was old already.
            _ = running.as_mut() => {}
        }
    };
    while client.send_request(server.get("/")).await.is_ok() {}
    end.send(()).unwrap();
    assert_eq!(running.await.unwrap().status(), 200);
}

#[bounded::test]
async fn the_connection_that_is_idle_for_longest_goes_for_another() {
    let options = ServeOptions {
        yields_after: Duration::ZERO,
        ..ServeOptions::main(2)
    };
    let (server, _slow) = Server::start(options).await;
    let (mut longest, ended) = server.connect().await;
    let mut used = server.http2().await;
    for client in [&mut longest, &mut used] {
        let response = client.send_request(server.get("/")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let mut third = server.http2().await;
    let response = third.send_request(server.get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    ended.await.unwrap();
}

#[bounded::test]
async fn one_connection_at_a_time_goes_for_another() {
    let connections = OpenConnections::default();
    let mut open = [(); 4].map(|()| Some(connections.open()));
    let going = |open: &[Option<Arc<ConnectionActivity>>]| {
        let is_to_go = |connection: &ConnectionActivity| {
            let asked = connection.is_to_go(NEVER, NEVER).now_or_never();
            asked.is_some()
        };
        let open = open.iter().flatten();
        open.filter(|connection| is_to_go(connection)).count()
    };
    for _ in 0..3 {
        connections.ask_idle_one_to_go(Duration::ZERO, NEVER);
        assert_eq!(going(&open), 1);
    }
    // It takes longer than it may.
    connections.ask_idle_one_to_go(Duration::ZERO, Duration::ZERO);
    assert_eq!(going(&open), 2);
    connections.ask_idle_one_to_go(Duration::ZERO, NEVER);
    assert_eq!(going(&open), 2);
    for connection in &mut open {
        let gone = connection.take_if(|it| it.is_to_go(NEVER, NEVER).now_or_never().is_some());
        drop(gone);
    }
    connections.ask_idle_one_to_go(Duration::ZERO, NEVER);
    assert_eq!(going(&open), 1);
}
