//! The end of a call, as far as ingest sees it.

use super::client::{get, packet, post};
use crate::world::World;

#[tokio::test]
async fn a_call_is_over_the_moment_its_end_and_all_its_packets_are_there() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let end = r#"{"sequence":3,"data":"bye","event":"end"}"#;
    assert_eq!(post(&doors, "/v1/call/stream/c", end).await.status, 202);
    packet(&doors, "c", 1, "a").await;
    assert_eq!(get(&doors, "/v1/call/c").await.text("state"), "IN_PROGRESS");
    assert_eq!(get(&doors, "/v1/call/c").await.json["packets"]["missing"], serde_json::json!([[2, 2]]));
    packet(&doors, "c", 2, "b").await;
    world.until("SELECT state FROM calls", "COMPLETED").await;
    let late = packet(&doors, "c", 4, "late").await;
    assert_eq!((late.status.as_u16(), &late.json["late"]), (202, &true.into()));
    assert_eq!(world.value("SELECT count(*) FROM packets").await, 4);
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn an_end_signal_on_a_copy_counts_and_so_does_a_second_one() {
    let mut world = World::new().await;
    let doors = world.ingest();
    packet(&doors, "c", 1, "a").await;
    let copy = post(&doors, "/v1/call/stream/c", r#"{"sequence":1,"data":"a","event":"end","final_sequence":1}"#).await;
    assert_eq!(copy.text("status"), "duplicate");
    world.until("SELECT state FROM calls", "COMPLETED").await;
    for _ in 0..2 {
        assert_eq!(post(&doors, "/v1/calls/c/end", r#"{"reason":"hangup"}"#).await.status, 202);
    }
    assert_eq!(world.value("SELECT version FROM calls").await, 2);
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn a_copy_with_other_content_is_kept_aside() {
    let mut world = World::new().await;
    let doors = world.ingest();
    packet(&doors, "c", 1, "first").await;
    for _ in 0..2 {
        assert_eq!(packet(&doors, "c", 1, "other").await.text("status"), "duplicate");
    }
    let view = get(&doors, "/v1/call/c").await.json;
    assert_eq!((&view["packets"]["duplicates"], &view["packets"]["conflicts"]), (&2.into(), &1.into()));
    assert_eq!(world.value("SELECT convert_from(data, 'UTF8') FROM packets").await, "first");
    drop(doors);
    world.finish().await;
}
