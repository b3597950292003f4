//! What supervisors are told when something dies.

use std::time::{Duration, Instant};

use callfleet::broker::{self, Broker, Settings};
use callfleet::notifier::Options;
use callfleet::service::health::Health;
use callfleet::store::{Purpose, Store};

use super::client::Client;
use super::stage::{Stage, options};
use crate::proxy::Proxy;
use crate::world::{World, database, nats, setting};

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_say_down_at_once_when_the_broker_is_gone() {
    let proxy = Proxy::to(&setting("NATS_URL")).await;
    let world = World::new().await;
    let settings =
        Settings { nats_prefix: world.name.parse().unwrap(), nats_replicas: 1, ack_wait: Duration::from_secs(30) };
    let through_proxy = broker::Options { nats_url: proxy.url.parse().unwrap(), settings };
    let broker = Broker::connect(&through_proxy, "test", &Health::new()).await.unwrap();
    let store = world.store.clone();
    let stage = Stage::over(world, options(), store, broker).await;
    let mut client = stage.client("").await;

    proxy.cut();
    let frame = client.frame().await;
    assert_eq!((&frame["event_type"], &frame["upstream"]["status"]), (&"heartbeat".into(), &"down".into()));
    let key = stage.open(["a"], None).await[0];
    let mut newcomer = Client::open(stage.address, "").await;
    assert_eq!(newcomer.event("heartbeat").await["upstream"]["status"], "down");
    newcomer.until_it_sees(&[("a", "IN_PROGRESS")]).await;

    proxy.mend();
    // What happened meanwhile may be told first.
    assert_eq!(client.event("heartbeat").await["upstream"]["status"], "ok");
    stage.complete(key).await;
    client.until_it_sees(&[("a", "COMPLETED")]).await;
    newcomer.until_it_sees(&[("a", "COMPLETED")]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_stream_gives_everybody_a_fresh_snapshot() {
    let stage = Stage::new().await;
    let keys = stage.open(["a", "b", "c"], None).await;
    let (mut one, mut other) = (stage.client("").await, stage.client("?state=COMPLETED").await);
    stage.complete(keys[0]).await;
    other.until_it_sees(&[("a", "COMPLETED")]).await;

    let jetstream = async_nats::jetstream::new(nats().await);
    jetstream.delete_stream(format!("{}_CALL_STATE", stage.world.name)).await.unwrap();
    for client in [&mut one, &mut other] {
        assert_eq!(client.event("gap").await["dropped"], 0);
        client.event("snapshot_end").await;
    }
    stage.complete(keys[1]).await;
    one.until_it_sees(&[("a", "COMPLETED"), ("b", "COMPLETED"), ("c", "IN_PROGRESS")]).await;
    other.until_it_sees(&[("a", "COMPLETED"), ("b", "COMPLETED")]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_delays_nobody_and_gets_a_new_snapshot() {
    let stage = Stage::with(Options { ws_queue: 64, ..options() }).await;
    let (mut slow, mut fast) = (stage.client("").await, stage.client("").await);
    let mut count = 0;
    // The slow one reads nothing; the fast one has read each batch before the next is made.
    for batch in 0..40 {
        let ids: Vec<String> = (0..50).map(|n| format!("{} {batch}-{n}", "x".repeat(200))).collect();
        stage.open(ids.iter().map(String::as_str), None).await;
        count += ids.len();
        while fast.sees.len() < count {
            assert_eq!(fast.frame().await["event_type"], "call.state_changed");
        }
    }
    let gap = slow.event("gap").await;
    assert!(gap["dropped"].as_u64().unwrap() > 0);
    slow.event("snapshot_end").await;
    assert_eq!(slow.sees, fast.sees);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_does_not_hold_up_the_end() {
    let stage = Stage::with(Options { ws_write_timeout: Duration::from_millis(200), ..options() }).await;
    let stuck = stage.client("").await;
    let mut fast = stage.client("").await;
    let ids: Vec<String> = (0..800).map(|n| format!("{} {n}", "x".repeat(200))).collect();
    stage.open(ids.iter().map(String::as_str), None).await;
    while fast.sees.len() < ids.len() {
        fast.frame().await;
    }
    stage.stop();
    let began = Instant::now();
    fast.event("going_away").await;
    stage.end().await;
    assert!(began.elapsed() < Duration::from_secs(8), "ended after {:?}", began.elapsed());
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_a_client_is_greeted_and_told_to_come_back() {
    let world = World::new().await;
    let store = Store::connect(&database(&world.database_url), "test", Purpose::Role).await.unwrap();
    let broker = world.broker.clone();
    let stage = Stage::over(world, options(), store.clone(), broker).await;
    let mut settled = stage.client("").await;
    store.close(Duration::from_secs(5)).await;

    let mut client = Client::open(stage.address, "").await;
    assert_eq!(client.frame().await["event_type"], "hello");
    let frame = client.frame().await;
    assert_eq!((&frame["event_type"], &frame["retryable"]), (&"error".into(), &true.into()));
    assert_eq!(client.next().await.unwrap_err(), 4001);

    stage.open(["a"], None).await;
    assert_eq!(settled.change().await["call_id"], "a", "who has a view goes on");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_ends_says_when_to_come_back() {
    let stage = Stage::new().await;
    let mut client = stage.client("").await;
    stage.stop();
    let frame = client.frame().await;
    assert_eq!(frame["event_type"], "going_away");
    assert!(frame["reconnect_after_ms"].as_u64().unwrap() <= 1000);
    assert_eq!(client.next().await.unwrap_err(), 1001);
    stage.end().await;
}
