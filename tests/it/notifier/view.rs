//! The snapshot, and the changes that follow it.

use std::time::Duration;

use callfleet::domain::{Class, Failure, Stage as AttemptStage};
use callfleet::notifier::Options;
use serde_json::Value;

use super::client::Client;
use super::stage::{HOLDER, Stage, options};

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["event_type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_sends_nothing_and_gets_the_present() {
    let stage = Stage::new().await;
    stage.open(["a", "b"], Some("sales")).await;
    let mut client = Client::open(stage.address, "").await;
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Value| frame["event_type"] != "heartbeat") {
        frames.push(client.frame().await);
    }
    assert_eq!(types(&frames), ["hello", "subscribed", "snapshot", "snapshot_end", "heartbeat"]);
    assert_eq!((&frames[0]["protocol"], &frames[0]["supervisor_id"]), (&"callfleet.v1.json".into(), &"me".into()));
    assert_eq!(frames[1]["visible"], 2);
    assert_eq!(frames[2]["calls"][0]["metadata"]["queue"], "sales");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_seen_through_its_states_in_order() {
    let stage = Stage::new().await;
    let mut client = stage.client("").await;
    let key = stage.open(["a/b <c>"], None).await[0];
    stage.complete(key).await;
    stage.claim(key).await;
    let failure = Failure::new(Class::Transient, AttemptStage::Ask, Some(500), "no");
    let policy = &stage.world.policy;
    stage.step(key, |call, now| call.fail(HOLDER, &failure, 0, Duration::ZERO, now, policy).unwrap()).await;
    stage.claim(key).await;
    stage.succeed(key).await;
    let states = ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "FAILED", "PROCESSING_AI", "ARCHIVED"];
    let mut from = Value::Null;
    for (version, state) in (1..).zip(states) {
        let frame = client.change().await;
        assert_eq!((&frame["version"], &frame["call_id"]), (&version.into(), &"a/b <c>".into()));
        assert_eq!((&frame["from"], &frame["to"]), (&from, &state.into()));
        assert_eq!(frame["change"], if version == 1 { "enter" } else { "update" });
        from = state.into();
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_view_is_entered_and_left() {
    let stage = Stage::new().await;
    let mut client = stage.client("?state=COMPLETED,FAILED&queue=sales").await;
    let [a, b] = stage.open(["a", "b"], Some("sales")).await[..] else { panic!() };
    let other = stage.open(["c"], Some("support")).await[0];
    stage.complete(other).await;
    stage.complete(a).await;
    let frame = client.change().await;
    assert_eq!((&frame["call_id"], &frame["change"]), (&"a".into(), &"enter".into()));
    stage.claim(a).await;
    let frame = client.change().await;
    assert_eq!((&frame["event_type"], &frame["call_id"]), (&"call.left_view".into(), &"a".into()));
    stage.complete(b).await;
    client.until_it_sees(&[("b", "COMPLETED")]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_the_snapshot_leaves_the_view_too() {
    let stage = Stage::new().await;
    let [a, b] = stage.open(["a", "b"], None).await[..] else { panic!() };
    stage.open(["c"], None).await;
    let mut client = stage.client("?state=IN_PROGRESS&call_id=a&call_id=b").await;
    client.until_it_sees(&[("a", "IN_PROGRESS"), ("b", "IN_PROGRESS")]).await;
    stage.complete(a).await;
    client.until_it_sees(&[("b", "IN_PROGRESS")]).await;
    stage.complete(b).await;
    client.until_it_sees(&[]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_what_is_not_archived_or_was_within_the_last_hour() {
    let stage = Stage::new().await;
    let [long_ago, lately] = stage.open(["long ago", "lately"], None).await[..] else { panic!() };
    stage.archive(long_ago).await;
    stage.world.store.clock().advance(Duration::from_mins(61));
    stage.archive(lately).await;
    stage.open(["now"], None).await;
    let expected = [("lately", "ARCHIVED"), ("now", "IN_PROGRESS")];
    for query in ["", "?call_id=lately&call_id=now&call_id=long%20ago&call_id=unknown"] {
        let mut client = Client::open(stage.address, query).await;
        assert_eq!(client.event("subscribed").await["visible"], 2, "{query}");
        client.event("snapshot_end").await;
        client.until_it_sees(&expected).await;
    }
    let mut client = Client::open(stage.address, "?state=ARCHIVED").await;
    client.event("snapshot_end").await;
    client.until_it_sees(&expected[..1]).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_snapshot_comes_in_pages_and_whole() {
    let stage = Stage::new().await;
    let ids: Vec<String> = (0..1201).map(|n| format!("call-{n:04}")).collect();
    stage.open(ids.iter().map(String::as_str), Some("sales")).await;
    let mut client = Client::open(stage.address, "?queue=sales").await;
    assert_eq!(client.event("subscribed").await["visible"], 1201);
    let mut pages = 0;
    loop {
        let frame = client.frame().await;
        if frame["event_type"] == "snapshot_end" {
            break;
        }
        assert!(frame.to_string().len() <= 32 * 1024);
        pages += 1;
    }
    assert!(pages > 10);
    assert!(client.sees.keys().eq(ids.iter()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_taken_while_calls_change_misses_nothing() {
    let stage = Stage::new().await;
    let ids: Vec<String> = (0..60).map(|n| format!("call-{n}")).collect();
    let keys = stage.open(ids.iter().map(String::as_str), None).await;
    let all: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "COMPLETED")).collect();
    let changing = async {
        for key in &keys {
            stage.complete(*key).await;
        }
    };
    let watching = async {
        let mut clients = Vec::new();
        for _ in 0..10 {
            for query in ["", "?state=COMPLETED", "?state=IN_PROGRESS"] {
                let mut client = Client::open(stage.address, query).await;
                client.event("snapshot_end").await;
                clients.push((query, client));
            }
        }
        clients
    };
    let ((), clients) = tokio::join!(changing, watching);
    for (query, mut client) in clients {
        client.until_it_sees(if query == "?state=IN_PROGRESS" { &[] } else { &all }).await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_say_how_far_the_view_is_though_nothing_in_it_changes() {
    let stage = Stage::with(Options { ws_heartbeat: Duration::from_millis(50), ..options() }).await;
    let mut client = stage.client("?state=ARCHIVED").await;
    stage.open(["a", "b", "c"], None).await;
    let frame = client.until(|frame| frame["event_type"] == "heartbeat" && frame["seq"] == 3).await;
    assert_eq!((&frame["upstream"]["status"], &frame["upstream"]["seq"]), (&"ok".into(), &3.into()));
    assert!(frame["server_time"].is_string() && frame["upstream"]["lag_ms"].is_u64());
    stage.end().await;
}
