//! Calls brought to a stage of their lives, step by step, by a PBX and a worker played by the test.
//! The worker takes no job off the work stream: worlds with one are abandoned, not finished.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use callfleet::domain::{Call, CallId, CallKey, Class, Failure, Ranges, Stage, Tenant};
use callfleet::store::Session;
use callfleet::store::claim::{self, Claim, Claimed};
use callfleet::store::record::{self, Ending, Record};
use serde_json::json;
use uuid::Uuid;

use crate::ingest::client::{encoded, packet, post};
use crate::world::World;

pub(crate) fn key(call_id: &str) -> CallKey {
    CallKey::derive(&Tenant::open_mode(), &CallId::new(call_id).unwrap())
}

/// A call that is over, with packets 1 to 3.
pub(crate) async fn over(world: &World, doors: &Router, call_id: &str) {
    for sequence in 1..=2 {
        packet(doors, call_id, sequence, "words").await;
    }
    let end = json!({"sequence": 3, "data": "bye", "event": "end", "final_sequence": 3});
    post(doors, &format!("/v1/call/stream/{}", encoded(call_id)), end.to_string()).await;
    world.until(&format!("SELECT state FROM calls WHERE key = '{}'", key(call_id).as_uuid()), "COMPLETED").await;
}

/// A worker takes the call; its hold.
pub(crate) async fn claimed(world: &World, call_id: &str) -> (Call, Uuid) {
    let token = Uuid::new_v4();
    let claim = Claim { key: key(call_id), generation: 1, token, worker: Arc::from("w1") };
    let mut session = Session::new(world.store.clone());
    let (mut claimed, outgoing) = claim::claim(&mut session, &[claim], None, &world.policy).await.unwrap();
    world.relay.send(outgoing);
    match claimed.pop() {
        Some(Claimed::Held { call, .. }) => (*call, token),
        other => panic!("{call_id} was not claimed: {other:?}"),
    }
}

/// A worker takes the call, and this comes of it.
pub(crate) async fn tried(world: &World, call_id: &str, ending: Ending) -> Call {
    let (call, token) = claimed(world, call_id).await;
    let sent = Some(Ranges::of(1..=3));
    let record = Arc::new(Record { key: call.key, token, worker: Arc::from("w1"), sent, ending });
    let mut session = Session::new(world.store.clone());
    let (mut calls, outgoing) = record::record(&mut session, &[record], &world.policy).await.unwrap();
    world.relay.send(outgoing);
    calls.pop().unwrap().unwrap()
}

pub(crate) fn answered() -> Ending {
    let transcript = "Hello, I would like to change my booking.".to_owned();
    Ending::Answered { http_status: 200, response: json!({"transcript": transcript}).to_string(), transcript }
}

pub(crate) fn failed(class: Class, status: u16) -> Ending {
    let failure = Failure::new(class, Stage::Ask, Some(status), "the service answered \u{1b}[31mno");
    Ending::Failed { failure, delay: Duration::from_mins(1) }
}

/// A fleet with one call in every bucket but the last: `progress`, `waiting`, `running`, `retrying`,
/// `archived`, `dead`.
pub(crate) async fn one_of_each(world: &World, doors: &Router) {
    packet(doors, "progress", 1, "words").await;
    for call_id in ["waiting", "running", "retrying", "archived", "dead"] {
        over(world, doors, call_id).await;
    }
    claimed(world, "running").await;
    tried(world, "retrying", failed(Class::Transient, 503)).await;
    tried(world, "archived", answered()).await;
    tried(world, "dead", failed(Class::Permanent, 422)).await;
    world.until("SELECT count(*) FROM outbox", 0).await;
}
