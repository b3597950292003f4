//! A supervisor: a plain WebSocket client that reconnects, and what it sees.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::wait;

/// How often the notifiers are told to send a heartbeat, and how many may fail to come.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(4);
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(200);

/// A call as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) state: String,
    pub(crate) ai_status: String,
    pub(crate) version: i64,
}

/// What a client knows.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) calls: HashMap<String, Seen>,
    /// Which notifier it is connected to.
    pub(crate) at: Option<usize>,
    pub(crate) connections: u64,
    /// What a client should never see.
    pub(crate) problems: Vec<String>,
    is_whole: bool,
    seq: u64,
}

/// The client, connected for as long as this lives.
pub(crate) struct Supervisor {
    view: Arc<Mutex<View>>,
    _client: JoinSet<()>,
}

impl Supervisor {
    pub(crate) fn start(ports: Vec<u16>) -> Self {
        let view = Arc::new(Mutex::new(View::default()));
        let shared = Arc::clone(&view);
        let mut client = JoinSet::new();
        client.spawn(async move {
            for turn in 0.. {
                let at = turn % ports.len().max(1);
                follow(&shared, at, ports.get(at).copied().unwrap_or_default()).await;
                lock(&shared).at = None;
                wait::hold(AGAIN).await;
            }
        });
        Self { view, _client: client }
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    /// Waits until it has had a whole snapshot.
    pub(crate) async fn until_whole(&self, deadline: Duration) -> bool {
        wait::until(deadline, async || self.view().is_whole).await
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, from its beginning to its end.
async fn follow(view: &Mutex<View>, at: usize, port: u16) {
    let connecting = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let request = format!("ws://127.0.0.1:{port}/api/v1/ws/supervisor/chaos").into_client_request().ok()?;
        client_async(request, stream).await.ok()
    };
    let Some(Some((mut socket, _))) = wait::within(CONNECT_DEADLINE, connecting).await else { return };
    {
        let mut view = lock(view);
        (view.at, view.seq, view.is_whole) = (Some(at), 0, false);
        view.connections += 1;
    }
    // A frame comes with every heartbeat at least; without one the connection is dead.
    while let Some(Some(Ok(message))) = wait::within(SILENCE, socket.next()).await {
        match message {
            Message::Text(text) => lock(view).take(&text),
            Message::Close(_) => return,
            _ => {}
        }
    }
}

impl View {
    fn take(&mut self, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return self.problem(format!("a frame is not JSON: {text}"));
        };
        if let Some(seq) = frame.get("seq").and_then(Value::as_u64) {
            if seq < self.seq {
                self.problem(format!("seq fell from {} to {seq}: {text}", self.seq));
            }
            self.seq = self.seq.max(seq);
        }
        match frame.get("event_type").and_then(Value::as_str).unwrap_or_default() {
            "subscribed" => {
                self.calls.clear();
                self.is_whole = false;
            }
            "snapshot" => {
                frame.get("calls").and_then(Value::as_array).into_iter().flatten().for_each(|call| self.see(call));
            }
            "snapshot_end" => self.is_whole = true,
            "call.state_changed" => frame.get("call").into_iter().for_each(|call| self.see(call)),
            "call.left_view" => {
                if let Some(call_id) = frame.get("call_id").and_then(Value::as_str) {
                    self.calls.remove(call_id);
                }
            }
            _ => {}
        }
    }

    fn see(&mut self, call: &Value) {
        let text = |field: &str| call.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = call.get("version").and_then(Value::as_i64).unwrap_or(0);
        let seen = Seen { state: text("state"), ai_status: text("ai_status"), version };
        let before = self.calls.insert(text("call_id"), seen);
        if before.as_ref().is_some_and(|before| before.version > version) {
            self.problem(format!("a call went from version {:?} back to {version}: {call}", before.map(|b| b.version)));
        }
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < 10 {
            self.problems.push(text);
        }
    }
}
