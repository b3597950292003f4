use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::outcome::{Outcome, Quantiles, Run};
use super::{Options, run};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// The options without any flag.
pub(super) fn options() -> Options {
    Line::parse_from(["simulate"]).options
}

/// An outcome of nothing.
pub(super) fn outcome() -> Outcome {
    let quantiles = Quantiles { count: 0, p50: 0.0, p95: 0.0, p99: 0.0, max: 0.0 };
    Outcome {
        run: Run::new(&options(), "sim", "http://127.0.0.1:1", DateTime::UNIX_EPOCH),
        scenarios: Vec::new(),
        sent: 0,
        accepted: 0,
        duplicates: 0,
        stored: 0,
        gaps: 0,
        dropped: 0,
        late: 0,
        refused: 0,
        refusals: BTreeMap::new(),
        retries: 0,
        archived: 0,
        dead: 0,
        unfinished: 0,
        load_seconds: 0.0,
        drain_seconds: 0.0,
        packets_per_second: 0.0,
        behind_rate_ms: 0,
        latency_ms: quantiles,
        end_to_transcript_ms: quantiles,
        ledger: None,
        audit: Audit::default(),
        balanced: true,
    }
}

/// As much of ingest as a run asks for: it archives a call as soon as its end signal came.
#[derive(Default)]
struct Fake {
    calls: Mutex<HashMap<String, FakeCall>>,
    requests: AtomicU32,
    /// Forgets every packet with this sequence after answering 202
    loses: Option<i64>,
    /// Answers every n-th packet 503
    refuses_every: Option<u32>,
}

#[derive(Default)]
struct FakeCall {
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
async fn serve(fake: Fake) -> (String, JoinSet<()>) {
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

async fn simulate(url: &str, change: impl FnOnce(&mut Options)) -> anyhow::Result<bool> {
    let mut options = Options { calls: 20, packets: 12, concurrency: 7, json: true, ..options() };
    options.wait = Duration::from_millis(500);
    options.target.url = Some(url.to_owned());
    options.target.data_dir = "/nonexistent".into();
    change(&mut options);
    run(options, CancellationToken::new()).await
}

#[tokio::test]
async fn a_run_against_a_server_that_keeps_everything_balances() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, report) = (folder.path().join("ledger"), folder.path().join("report.html"));
    let (url, _server) = serve(Fake { refuses_every: Some(10), ..Fake::default() }).await;
    let balanced = simulate(&url, |options| {
        options.shuffle = true;
        options.duplicates = 0.3;
        options.drops = 0.2;
        options.ledger = Some(ledger.clone());
        options.report = Some(report.clone());
    });
    assert!(balanced.await.unwrap());
    let ledger = std::fs::read_to_string(ledger).unwrap();
    let scenes = ledger.lines().filter(|line| line.contains("-scene-")).count();
    assert_eq!(scenes, 15 + 2 + 50 + 10);
    assert!(ledger.lines().count() > scenes + 20 * 6);
    assert!(std::fs::read_to_string(report).unwrap().contains("✓ balanced"));
}

#[tokio::test]
async fn batches_balance_too() {
    let (url, _server) = serve(Fake::default()).await;
    let balanced = simulate(&url, |options| {
        options.batch = 16;
        options.shuffle = true;
        options.duplicates = 0.3;
    });
    assert!(balanced.await.unwrap());
}

#[tokio::test]
async fn a_lost_packet_is_found() {
    let (url, _server) = serve(Fake { loses: Some(3), ..Fake::default() }).await;
    assert!(!simulate(&url, |options| options.skip_scenarios = true).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_clear_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = simulate(&url, |_| ()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), format!("nothing answers at {url}: start it with scripts/up or callfleet up"));
}
