//! As much of ingest as a run of `callfleet simulate` asks for.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::Utc;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Archives a call as soon as its end signal came.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) calls: Mutex<HashMap<String, FakeCall>>,
    pub(super) requests: AtomicU32,
    /// Forgets every packet with this sequence after answering 202
    pub(super) loses: Option<i64>,
    /// Answers every n-th packet 503
    pub(super) refuses_every: Option<u32>,
}

#[derive(Default)]
pub(super) struct FakeCall {
    packets: BTreeMap<i64, Value>,
    duplicates: i64,
    tags: serde_json::Map<String, Value>,
    changes: Vec<(Option<&'static str>, &'static str, &'static str)>,
    last: Option<i64>,
}

impl Fake {
    fn take(&self, call_id: &str, packet: &Value) -> &'static str {
        let mut calls = self.calls.lock().unwrap();
        let call = calls.entry(call_id.to_owned()).or_default();
        let sequence = packet["sequence"].as_i64().unwrap();
        if call.changes.is_empty() {
            call.changes.push((None, "IN_PROGRESS", "NONE"));
        }
        call.tags.extend(packet["call"]["tags"].as_object().cloned().unwrap_or_default());
        if packet["event"] == "end" {
            call.end(packet["final_sequence"].as_i64());
        }
        if call.packets.contains_key(&sequence) {
            call.duplicates += 1;
            return "duplicate";
        }
        if self.loses != Some(sequence) {
            call.packets.insert(sequence, packet.clone());
        }
        "accepted"
    }
}

impl FakeCall {
    fn end(&mut self, last: Option<i64>) {
        if self.last.is_none() {
            self.last = last;
            self.changes.push((Some("IN_PROGRESS"), "COMPLETED", "PENDING"));
            self.changes.push((Some("COMPLETED"), "PROCESSING_AI", "RUNNING"));
            self.changes.push((Some("PROCESSING_AI"), "ARCHIVED", "SUCCEEDED"));
        }
    }

    fn state(&self) -> (&'static str, &'static str) {
        let (_, state, ai_status) = self.changes[self.changes.len() - 1];
        (state, ai_status)
    }
}

type World = Shared<Arc<Fake>>;

async fn packet(Shared(fake): World, Path(call_id): Path<String>, body: Bytes) -> Response {
    let request = fake.requests.fetch_add(1, Ordering::Relaxed);
    if fake.refuses_every.is_some_and(|every| request % every == 0) {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "").into_response();
    }
    let packet: Value = serde_json::from_slice(&body).unwrap();
    let status = fake.take(&call_id, &packet);
    let receipt = json!({
        "call_id": call_id, "sequence": packet["sequence"], "status": status, "late": false,
        "received_at": Utc::now(), "response_time_ms": 0.1,
    });
    (StatusCode::ACCEPTED, axum::Json(receipt)).into_response()
}

async fn batch(Shared(fake): World, body: String) -> (StatusCode, axum::Json<Value>) {
    let (mut accepted, mut duplicates) = (0, 0);
    for line in body.lines() {
        let packet: Value = serde_json::from_str(line).unwrap();
        match fake.take(packet["call_id"].as_str().unwrap(), &packet) {
            "accepted" => accepted += 1,
            _ => duplicates += 1,
        }
    }
    let receipt = json!({ "accepted": accepted, "duplicates": duplicates, "rejected": [] });
    (StatusCode::ACCEPTED, axum::Json(receipt))
}

async fn end(Shared(fake): World, Path(call_id): Path<String>, body: Bytes) -> (StatusCode, axum::Json<Value>) {
    let body: Value = serde_json::from_slice(&body).unwrap();
    fake.calls.lock().unwrap().get_mut(&call_id).unwrap().end(body["final_sequence"].as_i64());
    (StatusCode::ACCEPTED, axum::Json(json!({ "call_id": call_id, "state": "COMPLETED" })))
}

async fn call(Shared(fake): World, Path(call_id): Path<String>) -> Response {
    let calls = fake.calls.lock().unwrap();
    let Some(call) = calls.get(&call_id) else { return StatusCode::NOT_FOUND.into_response() };
    let (state, ai_status) = call.state();
    let highest = call.last.or(call.packets.keys().last().copied()).unwrap_or(0);
    let missing: Vec<_> = (1..=highest).filter(|one| !call.packets.contains_key(one)).map(|one| [one, one]).collect();
    let view = json!({
        "call_id": call_id, "tenant": "default", "state": state, "ai_status": ai_status,
        "version": call.changes.len(), "attempts": 1, "metadata": { "tags": call.tags },
        "created_at": Utc::now(), "updated_at": Utc::now(), "archived_at": Utc::now(),
        "packets": { "received": call.packets.len(), "last_sequence": highest, "missing": missing,
            "duplicates": call.duplicates, "conflicts": 0, "late": 0 },
        "transcript": null, "over_limit": false,
    });
    axum::Json(view).into_response()
}

async fn timeline(Shared(fake): World, Path(call_id): Path<String>) -> axum::Json<Value> {
    let calls = fake.calls.lock().unwrap();
    let call = &calls[&call_id];
    let (state, ai_status) = call.state();
    let entries = call.changes.iter().enumerate().map(|(index, (from, to, ai_status))| {
        json!({ "kind": "transition", "at": Utc::now(), "version": index + 1, "from": from, "to": to,
            "ai_status": ai_status, "actor": "test", "reason": "test" })
    });
    let entries: Vec<_> = entries.collect();
    axum::Json(
        json!({ "call_id": call_id, "state": state, "ai_status": ai_status, "waiting_for": null, "entries": entries }),
    )
}

/// Serves `fake` until the set is dropped.
pub(super) async fn serve(fake: Fake) -> (String, JoinSet<()>) {
    let router = Router::new()
        .route("/healthz", get(|| async {}))
        .route("/v1/call/stream/{call_id}", post(packet))
        .route("/v1/calls/packets", post(batch))
        .route("/v1/calls/{call_id}/end", post(end))
        .route("/v1/call/{call_id}", get(call))
        .route("/v1/calls/{call_id}/timeline", get(timeline))
        .with_state(Arc::new(fake));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, server)
}
