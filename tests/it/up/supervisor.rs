//! A plain WebSocket client, which only reads.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longer than anything takes that comes.
const DEADLINE: Duration = Duration::from_secs(30);

/// The client.
pub(crate) struct Supervisor {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Supervisor {
    /// Connects to the notifier at `address` (host and port).
    pub(crate) async fn at(address: &str) -> Self {
        let address = address.trim_start_matches("http://");
        let url = format!("ws://{address}/api/v1/ws/supervisor/s1");
        let (socket, _) = soon("a connection", Box::pin(tokio_tungstenite::connect_async(url))).await.unwrap();
        Self { socket }
    }

    /// As [`Supervisor::at`], once news come there, and with the present read: until then a supervisor
    /// is shown a snapshot, and another when the news begin.
    pub(crate) async fn live_at(address: &str) -> Self {
        let mut early = Self::at(address).await;
        while early.event("heartbeat").await["upstream"]["status"] != "ok" {}
        let mut live = Self::at(address).await;
        live.event("snapshot_end").await;
        live
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        soon("a frame", self.next()).await
    }

    /// The next frame of that type. Heartbeats go on for ever, so the whole wait has its deadline.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        let found = async {
            loop {
                let frame = self.next().await;
                if frame["event_type"] == kind {
                    return frame;
                }
            }
        };
        soon(kind, found).await
    }

    /// Waits until it has been shown `call` as archived, in a snapshot or as a change.
    pub(crate) async fn sees_archived(&mut self, call: &str) {
        let is_it = |shown: &Value| shown["call_id"] == call && shown["state"] == "ARCHIVED";
        let seen = async {
            loop {
                let frame = self.next().await;
                if is_it(&frame["call"]) || frame["calls"].as_array().is_some_and(|calls| calls.iter().any(is_it)) {
                    return;
                }
            }
        };
        soon(&format!("the end of {call}"), seen).await;
    }

    /// Pings are answered underneath and are no news.
    async fn next(&mut self) -> Value {
        loop {
            let message = self.socket.next().await.expect("closed").unwrap();
            if message.is_text() {
                let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                assert!(frame["event_type"].is_string(), "{frame}");
                return frame;
            }
        }
    }
}

async fn soon<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, wanted).await.unwrap_or_else(|_| panic!("{what} did not come"))
}
