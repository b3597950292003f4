//! A supervisor's plain client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};

/// Longer than anything takes that works.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client that reads.
pub(super) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// What it sees: call id to state.
    pub(super) sees: BTreeMap<String, String>,
    seq: u64,
}

/// The request for a feed; `query` is empty or begins with `?`.
pub(super) fn request(address: SocketAddr, query: &str) -> Request {
    format!("ws://{address}/api/v1/ws/supervisor/me{query}").into_client_request().unwrap()
}

/// Opens a feed, or says why not: status and problem.
pub(super) async fn open(address: SocketAddr, request: Request) -> Result<Client, (u16, Value)> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let stream = socket.connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(Client { socket, sees: BTreeMap::new(), seq: 0 }),
        Err(Error::Http(response)) => {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let body = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap();
            Err((response.status().as_u16(), body))
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// The head of the answer to a request, as it came.
pub(super) async fn answer(address: SocketAddr, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/v1/ws/supervisor/me HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        assert!(lines.read_line(&mut head).await.unwrap() > 0, "{head}");
    }
    head.to_lowercase()
}

impl Client {
    /// A feed that is open; nothing read yet.
    pub(super) async fn open(address: SocketAddr, query: &str) -> Self {
        open(address, request(address, query)).await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// The next frame; or the close code.
    pub(super) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("no frame came");
            match message.expect("no end without a close").unwrap() {
                Message::Text(text) => {
                    let frame = serde_json::from_str(&text).unwrap();
                    self.take(&frame);
                    return Ok(frame);
                }
                Message::Close(close) => return Err(close.unwrap().code.into()),
                _ => {}
            }
        }
    }

    pub(super) async fn frame(&mut self) -> Value {
        self.next().await.unwrap_or_else(|code| panic!("closed with {code}"))
    }

    /// The next frame that is a change of a call.
    pub(super) async fn change(&mut self) -> Value {
        self.until(|frame| frame["event_type"].as_str().unwrap().starts_with("call.")).await
    }

    /// The first frame of which `wanted` holds; the ones before it are read over.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.frame().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// The first frame of that type.
    pub(super) async fn event(&mut self, event_type: &str) -> Value {
        self.until(|frame| frame["event_type"] == event_type).await
    }

    /// Reads on until it sees just that.
    pub(super) async fn until_it_sees(&mut self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<_, _> = expected.iter().map(|(id, s)| ((*id).to_owned(), (*s).to_owned())).collect();
        while self.sees != expected {
            self.frame().await;
        }
    }

    pub(super) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Does with a frame what every client does, and holds the server to its word on `seq`.
    fn take(&mut self, frame: &Value) {
        if let Some(seq) = frame["seq"].as_u64() {
            assert!(seq >= self.seq, "seq fell from {}: {frame}", self.seq);
            self.seq = seq;
        }
        let call_id = || frame["call_id"].as_str().unwrap().to_owned();
        match frame["event_type"].as_str().unwrap() {
            "subscribed" => self.sees.clear(),
            "snapshot" => frame["calls"].as_array().unwrap().iter().for_each(|call| self.see(call)),
            "call.state_changed" => self.see(&frame["call"]),
            "call.left_view" => {
                assert!(self.sees.remove(&call_id()).is_some(), "left without having been there: {frame}");
            }
            _ => {}
        }
    }

    fn see(&mut self, call: &Value) {
        let text = |field: &str| call[field].as_str().unwrap().to_owned();
        self.sees.insert(text("call_id"), text("state"));
    }
}
