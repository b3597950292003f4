//! Many at once: the four facts that the original service showed.

use futures_util::future::join_all;

use super::client::{packet, post};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_packet_sent_at_once_are_stored_once() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let answers = join_all((0..50).map(|_| packet(&doors, "c", 1, "same"))).await;
    let accepted = answers.iter().filter(|a| a.text("status") == "accepted").count();
    assert_eq!((accepted, answers.iter().filter(|a| a.status == 202).count()), (1, 50));
    assert_eq!(world.value("SELECT count(*) FROM call_events").await, 1);
    assert_eq!(world.value("SELECT sum(copies) FROM packet_copies").await, 49);
    assert_eq!(world.value("SELECT count(*) FROM packet_conflicts").await, 0);
    drop(doors);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adjacent_packets_at_the_same_instant_are_both_stored() {
    let mut world = World::new().await;
    let doors = world.ingest();
    for pair in 0..20 {
        let (first, second) = (pair * 2 + 1, pair * 2 + 2);
        let (a, b) = tokio::join!(packet(&doors, "c", first, "a"), packet(&doors, "c", second, "b"));
        assert_eq!((a.text("status"), b.text("status")), ("accepted", "accepted"));
    }
    assert_eq!(world.value("SELECT count(DISTINCT sequence_number) FROM call_events").await, 40);
    drop(doors);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_at_once_lose_no_update() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let tag = |n: i64| serde_json::json!({"sequence": n, "data": "x", "call": {"tags": {format!("t{n}"): n}}});
    let answers = join_all((1..=50).map(|n| post(&doors, "/v1/call/stream/c", tag(n).to_string()))).await;
    assert!(answers.iter().all(|a| a.status == 202), "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    assert_eq!(world.value("SELECT count(*) FROM packets").await, 50);
    assert_eq!(world.value("SELECT count(*) FROM calls c, jsonb_object_keys(c.tags) WHERE call_id = 'c'").await, 50);
    assert_versions_are_whole(&world).await;
    drop(doors);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_changes_at_once_end_consistent() {
    let mut world = World::new().await;
    let doors = world.ingest();
    packet(&doors, "c", 1, "hello").await;
    let end = || post(&doors, "/v1/calls/c/end", r#"{"final_sequence":3}"#);
    let (a, b, c, d) = tokio::join!(end(), packet(&doors, "c", 2, "x"), end(), packet(&doors, "c", 3, "y"));
    for answer in [a, b, c, d] {
        assert_eq!(answer.status, 202, "{}", answer.json);
    }
    world.until("SELECT state FROM calls", "COMPLETED").await;
    assert_eq!(world.value("SELECT count(*) FROM transitions WHERE to_state = 'COMPLETED'").await, 1);
    assert_versions_are_whole(&world).await;
    drop(doors);
    world.finish().await;
}

async fn assert_versions_are_whole(world: &World) {
    let broken = "SELECT count(*) FROM calls c WHERE (SELECT array_agg(version ORDER BY version) FROM transitions t \
                  WHERE t.call_key = c.key) IS DISTINCT FROM (SELECT array_agg(n) FROM generate_series(1, c.version) n)";
    assert_eq!(world.value(broken).await, 0);
}
