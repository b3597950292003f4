//! A server that takes its leave: nobody is cut off.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use callfleet::service::http;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::wait::soon;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: it\r\n\r\n";

/// A plain client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn to(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self) {
        self.0.get_mut().write_all(REQUEST).unwrap();
    }

    /// Reads an answer, which must be a good one; true when it says that it is the last.
    fn answer(&mut self) -> bool {
        let mut is_last = false;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("a reset");
            assert!(read > 0, "the connection ended without an answer: {lines:?}");
            is_last |= line.to_ascii_lowercase().trim_end() == "connection: close";
            lines.push(line.trim_end().to_owned());
            if line == "\r\n" {
                break;
            }
        }
        assert_eq!(lines[0], "HTTP/1.1 200 OK");
        let mut body = [0; 2];
        self.0.read_exact(&mut body).unwrap();
        is_last
    }

    /// Asserts that the connection ends, as it was said to.
    fn ends(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("a reset");
        assert!(rest.is_empty(), "{rest:?}");
    }
}

async fn server() -> (TcpListener, Router) {
    let router = Router::new().route("/", get(|| async { "ok" }));
    (TcpListener::bind("127.0.0.1:0").await.unwrap(), router)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_client_meets_an_answer_that_ends_its_connection_and_never_a_reset() {
    let (listener, router) = server().await;
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(http::serve(listener, router, shutdown.clone()));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(spawn_blocking(move || {
            let mut client = Client::to(address);
            let mut requests = 0;
            loop {
                client.send();
                requests += 1;
                if client.answer() {
                    client.ends();
                    return requests;
                }
            }
        }));
    }
    let mut idle = spawn_blocking(move || {
        let mut client = Client::to(address);
        client.send();
        assert!(!client.answer());
        client
    })
    .await
    .unwrap();
    shutdown.cancel();
    while let Some(requests) = soon("the clients' end", clients.join_next()).await {
        assert!(requests.unwrap().unwrap() > 0);
    }
    // One that thinks for a moment is still answered.
    spawn_blocking(move || {
        idle.send();
        assert!(idle.answer());
        idle.ends();
    })
    .await
    .unwrap();
    soon("the server's end", serving.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_connections_wait_in_the_kernel_when_the_server_ends_are_answered() {
    let (listener, router) = server().await;
    let address = listener.local_addr().unwrap();
    let mut clients: Vec<Client> = spawn_blocking(move || {
        (0..100)
            .map(|_| {
                let mut client = Client::to(address);
                client.send();
                client
            })
            .collect()
    })
    .await
    .unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let mut serving = JoinSet::new();
    serving.spawn(http::serve(listener, router, shutdown));
    spawn_blocking(move || {
        for mut client in clients.drain(..) {
            assert!(client.answer());
            client.ends();
        }
    })
    .await
    .unwrap();
    soon("the server's end", serving.join_next()).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}
