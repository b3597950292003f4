//! PostgreSQL goes away and comes back under an ingest.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::json;

use super::scene::Scene;
use crate::ingest::client::{packet, post};
use crate::world::{World, ingest_options};

#[tokio::test]
async fn while_postgresql_is_away_packets_are_kept_and_stored_when_it_is_back() {
    let scene = Scene::new().await;
    let first = packet(&scene.doors, "c", 1, "one").await;
    assert_eq!((first.status, first.text("durability")), (StatusCode::ACCEPTED, "stored"));
    scene.postgres.cut();
    let mut received = Vec::new();
    for sequence in 2..=4 {
        let kept = packet(&scene.doors, "c", sequence, "later").await;
        assert_eq!((kept.status, kept.text("durability")), (StatusCode::ACCEPTED, "spooled"), "{}", kept.json);
        received.push(kept.text("received_at").parse::<chrono::DateTime<chrono::Utc>>().unwrap());
    }
    let opened = packet(&scene.doors, "d", 1, "a call that nobody knows").await;
    assert_eq!(opened.text("durability"), "spooled");
    let end = post(&scene.doors, "/v1/calls/c/end", json!({"final_sequence": 5}).to_string()).await;
    assert_eq!((end.status, &end.json["state"]), (StatusCode::ACCEPTED, &json!(null)), "{}", end.json);
    let batch = "{\"call_id\":\"c\",\"sequence\":5,\"data\":\"x\"}\n{\"call_id\":\"e\",\"sequence\":1,\"data\":\"y\"}";
    let batch = post(&scene.doors, "/v1/calls/packets", batch).await;
    let counted = (&batch.json["accepted"], batch.text("durability"));
    assert_eq!(counted, (&json!(2), "spooled"), "{}", batch.json);
    // The batch is one message or two: its calls may have fallen to two writers.
    assert!((6..=7).contains(&scene.world.messages("CALL_SPOOL").await));
    assert!(scene.health.failures().is_empty(), "either store suffices: {:?}", scene.health.failures());

    scene.postgres.mend();
    scene.until_drained().await;
    let stored = "SELECT jsonb_agg(jsonb_build_array(call_id, sequence_number) ORDER BY call_id, sequence_number)
                    FROM call_events";
    let all = json!([["c", 1], ["c", 2], ["c", 3], ["c", 4], ["c", 5], ["d", 1], ["e", 1]]);
    assert_eq!(scene.world.value(stored).await, all);
    let times = "SELECT jsonb_agg(created_at ORDER BY sequence_number) FROM call_events
                  WHERE call_id = 'c' AND sequence_number BETWEEN 2 AND 4";
    let times: Vec<chrono::DateTime<chrono::Utc>> = serde_json::from_value(scene.world.value(times).await).unwrap();
    assert_eq!(times, received, "a packet came when it came");
    scene.world.until("SELECT state FROM calls WHERE call_id = 'c'", "COMPLETED").await;
    assert_eq!(scene.world.value("SELECT count(*) FROM packet_copies").await, 0);
    let again = packet(&scene.doors, "c", 2, "later").await;
    assert_eq!((again.text("status"), again.text("durability")), ("duplicate", "stored"));
    scene.world.abandon().await;
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_one_packet() {
    let scene = Scene::new().await;
    assert_eq!(packet(&scene.doors, "c", 1, "one").await.text("durability"), "stored");
    // The commit arrives, and nothing comes back from there on.
    scene.postgres.deafen_after("COMMIT");
    let began = Instant::now();
    let kept = packet(&scene.doors, "c", 2, "two").await;
    assert_eq!(kept.text("durability"), "spooled");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    scene.world.until("SELECT count(*) FROM packets", 2).await;
    scene.postgres.mend();
    scene.until_drained().await;
    assert_eq!(scene.world.value("SELECT count(*) FROM packets").await, 2);
    assert_eq!(scene.world.value("SELECT count(*) FROM packet_copies").await, 0, "its own copy is none");
    scene.world.abandon().await;
}

#[tokio::test]
async fn a_silent_postgresql_costs_one_deadline_and_no_more() {
    let scene = Scene::new().await;
    packet(&scene.doors, "c", 1, "one").await;
    scene.postgres.silence();
    assert_eq!(packet(&scene.doors, "c", 2, "two").await.text("durability"), "spooled");
    let began = Instant::now();
    for sequence in 3..=20 {
        assert_eq!(packet(&scene.doors, "c", sequence, "more").await.text("durability"), "spooled");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    scene.postgres.cut();
    scene.postgres.mend();
    scene.until_drained().await;
    scene.world.until("SELECT count(*) FROM packets", 20).await;
    scene.world.abandon().await;
}

#[tokio::test]
async fn without_either_store_a_packet_is_refused_in_time_and_says_when_to_come_back() {
    let scene = Scene::new().await;
    scene.postgres.cut();
    scene.nats.cut();
    for sequence in 1..=2 {
        let began = Instant::now();
        let refused = packet(&scene.doors, "c", sequence, "lost").await;
        refused.is_problem(503, "store_unavailable", None);
        assert!(refused.headers.contains_key("retry-after"));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    crate::wait::until("not ready", async || !scene.health.failures().is_empty()).await;
    scene.nats.mend();
    crate::wait::until("one store is there", async || {
        packet(&scene.doors, "c", 3, "kept").await.status == StatusCode::ACCEPTED
    })
    .await;
    scene.postgres.mend();
    scene.until_drained().await;
    crate::wait::until("ready", async || scene.health.failures().is_empty()).await;
    assert_eq!(scene.world.value("SELECT jsonb_agg(sequence) FROM packets").await, json!([3]));
    scene.world.abandon().await;
}

#[tokio::test]
async fn a_spool_nobody_vouches_for_keeps_nothing() {
    let options = callfleet::ingest::Options { spool_r1: false, ..ingest_options() };
    let scene = Scene::cold(World::new().await, &options, true).await;
    scene.until_storing().await;
    scene.postgres.cut();
    packet(&scene.doors, "c", 1, "lost").await.is_problem(503, "store_unavailable", None);
    assert_eq!(scene.world.messages("CALL_SPOOL").await, 0);
    scene.world.abandon().await;
}

#[tokio::test]
async fn an_ingest_that_begins_without_postgresql_keeps_packets_until_it_comes() {
    let scene = Scene::cold(World::new().await, &ingest_options(), false).await;
    let kept = packet(&scene.doors, "c", 1, "early").await;
    assert_eq!((kept.status, kept.text("durability")), (StatusCode::ACCEPTED, "spooled"));
    scene.postgres.mend();
    scene.until_drained().await;
    assert_eq!(scene.world.value("SELECT count(*) FROM packets").await, 1);
    crate::wait::until("packets are stored", async || {
        packet(&scene.doors, "c", 2, "two").await.text("durability") == "stored"
    })
    .await;
    scene.world.abandon().await;
}
