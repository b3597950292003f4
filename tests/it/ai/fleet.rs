//! The worker as it runs: lanes, verdicts carried out, a clean end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use callfleet::ai::{self, Worker};
use callfleet::domain::{CallKey, Policy, State};
use callfleet::service::health::Health;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scene::{Ai, attempts, options};
use crate::wait::{soon, until};
use crate::world::World;

/// Workers of one world.
struct Fleet {
    running: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    health: Health,
}

impl Fleet {
    fn start(world: &World, address: SocketAddr, workers: usize) -> Self {
        let (stop, health) = (CancellationToken::new(), Health::new());
        let mut running = JoinSet::new();
        // Short delays: here the clock is real.
        let policy = Policy { backoff_base: Duration::from_millis(50), ..world.policy.clone() };
        for _ in 0..workers {
            let worker = Worker {
                store: world.store.clone(),
                broker: world.broker.clone(),
                relay: world.relay.clone(),
                policy: policy.clone(),
                health: health.clone(),
            };
            running.spawn(ai::run(options(address), worker, stop.clone()));
        }
        Self { running, stop, health }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = soon("the worker's end", self.running.join_next()).await {
            ended.unwrap().unwrap();
        }
    }
}

async fn completed(world: &World, count: usize) -> Vec<CallKey> {
    let mut keys = Vec::new();
    for n in 0..count {
        keys.push(world.completed(&format!("call {n}")).await);
    }
    keys
}

#[tokio::test]
async fn calls_get_through_a_service_that_fails_one_time_in_four() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "failure_rate": 0.25, "latency_ms": 5 })).await;
    let fleet = Fleet::start(&world, ai.address, 2);
    let keys = completed(&world, 60).await;
    until("an end of every call", async || {
        let over = "SELECT count(*) FROM calls WHERE ai_status IN ('SUCCEEDED', 'DEAD_LETTERED')";
        world.count(over).await == 60
    })
    .await;
    let archived = world.count("SELECT count(*) FROM results").await;
    let requests = world.count("SELECT count(*) FROM attempts").await;
    assert_eq!(ai.stats().await.requests, requests);
    assert!(archived >= 50 && requests > 60, "{archived} archived after {requests} requests");
    assert_eq!(keys.len(), 60);
    assert_eq!(fleet.health.failures(), std::collections::BTreeMap::default());
    fleet.end().await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_ends_finishes_what_is_in_hand() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "latency_ms": 500 })).await;
    let fleet = Fleet::start(&world, ai.address, 1);
    let keys = completed(&world, 8).await;
    until("requests", async || ai.stats().await.in_flight == 8).await;
    fleet.end().await;
    for key in keys {
        assert_eq!(world.call(key).await.state, State::Archived);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_ends_gives_back_what_hangs_and_another_finishes_it() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "mode": "hang" })).await;
    let fleet = Fleet::start(&world, ai.address, 1);
    let keys = completed(&world, 20).await;
    // 16 slots, so that some jobs are never begun.
    until("requests", async || ai.stats().await.in_flight >= 12).await;
    let begun = Instant::now();
    fleet.end().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    for key in &keys {
        assert_eq!(world.call(*key).await.attempts.charged, 0);
    }
    ai.control(json!({ "mode": "normal" })).await;
    let fleet = Fleet::start(&world, ai.address, 1);
    for key in &keys {
        world.until_state(*key, State::Archived).await;
        assert!(attempts(&world, *key).await.len() <= 2);
    }
    fleet.end().await;
    world.finish().await;
}

#[tokio::test]
async fn a_message_that_is_no_job_is_taken_out_and_stops_nobody() {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    for (n, body) in
        ["", "{}", "[1]", r#"{"v":9,"key":"00000000-0000-0000-0000-000000000001","generation":1}"#].iter().enumerate()
    {
        world.publish(&format!("call.work.live.default.{n:032x}"), body).await;
    }
    let fleet = Fleet::start(&world, ai.address, 1);
    let key = world.completed("c").await;
    world.until_state(key, State::Archived).await;
    fleet.end().await;
    world.finish().await;
}

#[tokio::test]
async fn a_lost_work_stream_is_made_again_and_work_goes_on() {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    let fleet = Fleet::start(&world, ai.address, 1);
    let first = world.completed("first").await;
    world.until_state(first, State::Archived).await;
    world.delete_stream("CALL_WORK").await;
    let second = world.completed("second").await;
    world.until_state(second, State::Archived).await;
    fleet.end().await;
    world.finish().await;
}
