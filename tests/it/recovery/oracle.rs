//! An AI service that answers what the test says, when it says so.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::wait::soon;

/// The service: gone when this is dropped.
pub(super) struct Oracle {
    pub(super) url: String,
    asked: Mutex<mpsc::UnboundedReceiver<Question>>,
    _serving: JoinSet<anyhow::Result<()>>,
}

/// A request that waits for its answer.
pub(super) struct Question {
    /// Which attempt of its job asks.
    pub(super) attempt: u32,
    answer: oneshot::Sender<(StatusCode, String)>,
}

impl Oracle {
    pub(super) async fn start() -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let router = Router::new().route("/v1/transcribe", post(ask)).with_state(Arc::new(sender));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/transcribe", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(callfleet::service::http::serve(listener, router, CancellationToken::new()));
        Self { url, asked: Mutex::new(asked), _serving: serving }
    }

    /// The next request.
    pub(super) async fn question(&self) -> Question {
        soon("a request", async { self.asked.lock().await.recv().await.unwrap() }).await
    }

    /// Whether nobody asks now.
    pub(super) async fn is_idle(&self) -> bool {
        self.asked.lock().await.is_empty()
    }
}

impl Question {
    /// Answers with a transcript.
    pub(super) fn transcribe(self, transcript: &str) {
        let answer = serde_json::json!({ "transcript": transcript });
        self.answer.send((StatusCode::OK, answer.to_string())).expect("nobody waits for the answer");
    }

    /// Says that the job is no good, which asking again will not change.
    pub(super) fn refuse(self) {
        self.answer.send((StatusCode::UNPROCESSABLE_ENTITY, "{}".to_owned())).expect("nobody waits for the answer");
    }
}

async fn ask(State(asked): State<Arc<mpsc::UnboundedSender<Question>>>, headers: HeaderMap) -> (StatusCode, String) {
    let attempt = headers["x-attempt"].to_str().unwrap().parse().unwrap();
    let (answer, answered) = oneshot::channel();
    asked.send(Question { attempt, answer }).unwrap();
    // A question that the test drops is never answered.
    match answered.await {
        Ok(answer) => answer,
        Err(_dropped) => std::future::pending().await,
    }
}
