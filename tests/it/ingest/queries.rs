//! Calls back out, over HTTP.

use axum::Router;
use serde_json::{Value, json};

use super::client::{encoded, get, packet, post};
use crate::ops::stages::{answered, claimed, failed, over, tried};
use crate::world::World;

/// All call ids of a list, page by page.
async fn walk(doors: &Router, query: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(doors, &format!("/v1/calls?{query}&limit={limit}&after={after}")).await;
        assert_eq!(page.status, 200, "{}", page.json);
        let calls = page.json["calls"].as_array().unwrap();
        assert!(calls.len() <= limit);
        all.extend(calls.iter().map(|call| call["call_id"].as_str().unwrap().to_owned()));
        match page.json["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_call_shows_the_same_fields_from_its_first_packet_to_its_transcript() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let first = json!({"sequence": 5, "data": "a", "call": {"queue": "sales", "tags": {"vip": true}}}).to_string();
    post(&doors, "/v1/call/stream/c", first).await;
    let call = get(&doors, "/v1/call/c").await.json;
    assert_eq!(
        call["packets"],
        json!({
            "received": 1, "last_sequence": 5, "missing": [[1, 4]], "duplicates": 0, "conflicts": 0, "late": 0
        })
    );
    for absent in ["next_attempt_at", "transcript", "completed_at", "archived_at", "ended_at"] {
        assert_eq!(call.get(absent), Some(&Value::Null), "{absent}");
    }
    let shown =
        |call: &Value| json!([call["call_id"], call["state"], call["ai_status"], call["version"], call["attempts"]]);
    assert_eq!(shown(&call), json!(["c", "IN_PROGRESS", "NONE", 1, 0]));
    assert_eq!(call["metadata"], json!({"queue": "sales", "tags": {"vip": "true"}}));
    for sequence in 1..=4 {
        packet(&doors, "c", sequence, "b").await;
    }
    post(&doors, "/v1/calls/c/end", r#"{"final_sequence":5}"#).await;
    world.until("SELECT state FROM calls", "COMPLETED").await;
    claimed(&world, "c").await;
    let running = get(&doors, "/v1/call/c").await.json;
    assert_eq!(shown(&running), json!(["c", "PROCESSING_AI", "RUNNING", 3, 1]));
    assert_eq!(running["packets"]["missing"], json!([]));
    over(&world, &doors, "d").await;
    tried(&world, "d", answered()).await;
    packet(&doors, "d", 4, "after the transcript").await;
    packet(&doors, "d", 2, "a copy").await;
    let archived = get(&doors, "/v1/call/d").await.json;
    assert_eq!(shown(&archived), json!(["d", "ARCHIVED", "SUCCEEDED", 4, 1]));
    assert_eq!(archived["transcript"], "Hello, I would like to change my booking.");
    assert_eq!(
        archived["packets"],
        json!({
            "received": 4, "last_sequence": 4, "missing": [], "duplicates": 1, "conflicts": 1, "late": 1
        })
    );
    let keys = |call: &Value| call.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&call), keys(&archived));
    drop(doors);
    world.abandon().await;
}

#[tokio::test]
async fn a_timeline_tells_every_step_and_why_the_call_waits() {
    let mut world = World::new().await;
    let doors = world.ingest();
    over(&world, &doors, "a/b").await;
    let waits = |timeline: &Value| timeline["waiting_for"].as_str().unwrap_or_default().to_owned();
    assert!(waits(&get(&doors, "/v1/calls/a%2Fb/timeline").await.json).starts_with("a worker"));
    tried(&world, "a/b", failed(callfleet::domain::Class::Transient, 503)).await;
    let timeline = get(&doors, "/v1/calls/a%2Fb/timeline").await.json;
    assert!(waits(&timeline).contains("after 1 attempt (transient failure, HTTP 503"), "{timeline}");
    let entries = timeline["entries"].as_array().unwrap();
    let told: Vec<_> =
        entries.iter().map(|e| e["version"].as_i64().map_or("attempt".into(), |v| v.to_string())).collect();
    assert_eq!(told, ["1", "2", "3", "attempt", "4"], "{timeline}");
    assert_eq!((&entries[3]["class"], &entries[3]["sent"]), (&"transient".into(), &json!([[1, 3]])));
    assert_eq!((&entries[4]["from"], &entries[4]["to"]), (&"PROCESSING_AI".into(), &"FAILED".into()));
    assert_eq!(timeline["earlier_left_out"], false);
    world.store.clock().advance(std::time::Duration::from_secs(61));
    tried(&world, "a/b", answered()).await;
    assert_eq!(get(&doors, "/v1/calls/a%2Fb/timeline").await.json["waiting_for"], Value::Null);
    drop(doors);
    world.abandon().await;
}

#[tokio::test]
async fn lists_walk_every_call_once_the_newest_first() {
    let mut world = World::new().await;
    let doors = world.ingest();
    for number in 0..23 {
        let queue = if number % 2 == 0 { "sales" } else { "care" };
        let body = json!({"sequence": 1, "data": "a", "call": {"queue": queue}}).to_string();
        post(&doors, &format!("/v1/call/stream/c{number}"), body).await;
    }
    // Many of one flush have the same time: their order is the key's.
    world.execute("UPDATE calls SET created_at = date_trunc('day', created_at) WHERE call_id < 'c2'").await.unwrap();
    over(&world, &doors, "ended").await;
    let expected = world.rows("SELECT call_id FROM calls ORDER BY created_at DESC, key DESC").await;
    let expected: Vec<&str> = expected.iter().map(|row| row["call_id"].as_str().unwrap()).collect();
    for limit in [1, 5, 24, 1000] {
        assert_eq!(walk(&doors, "", limit).await, expected, "by {limit}");
    }
    assert_eq!(walk(&doors, "state=COMPLETED", 10).await, ["ended"]);
    let sales = walk(&doors, "queue=sales", 5).await;
    assert_eq!(sales.len(), 12);
    assert_eq!(walk(&doors, "queue=sales&state=IN_PROGRESS", 7).await, sales);
    assert_eq!(walk(&doors, "queue=none", 7).await, Vec::<String>::new());
    assert_eq!(walk(&doors, "queue=%27%3B%20--&state=FAILED", 7).await, Vec::<String>::new());
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_shown_is_a_problem_that_names_why() {
    let mut world = World::new().await;
    let doors = world.ingest();
    for path in ["/v1/call/nobody", "/v1/calls/nobody/timeline"] {
        get(&doors, path).await.is_problem(404, "unknown_call", None);
    }
    for path in ["/v1/call/%00", "/v1/calls/%ff/timeline"] {
        get(&doors, path).await.is_problem(422, "bad_field", Some("call_id"));
    }
    for (query, field) in [
        ("state=failed", "state"),
        ("queue=a%00b", "queue"),
        ("after=abc", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("page=2", "query"),
    ] {
        get(&doors, &format!("/v1/calls?{query}")).await.is_problem(422, "bad_field", Some(field));
    }
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn hostile_ids_come_back_as_they_were_sent() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let widest = "é".repeat(127) + "x";
    for id in ["f81d4fae/7dec+11%d0<a7>65\"00\\a0?c9:1e*6b[f6]{x}(y)@h", "*", ">", "a.b", "%2F", "'; --", "..", &widest]
    {
        assert_eq!(packet(&doors, id, 1, "a").await.status, 202, "{id}");
        assert_eq!(get(&doors, &format!("/v1/call/{}", encoded(id))).await.text("call_id"), id);
        assert_eq!(get(&doors, &format!("/v1/calls/{}/timeline", encoded(id))).await.text("call_id"), id);
    }
    assert_eq!(walk(&doors, "", 3).await.len(), 8);
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_a_503_that_says_when_to_ask_again() {
    let mut world = World::new().await;
    let doors = world.ingest();
    packet(&doors, "c", 1, "a").await;
    world.until("SELECT count(*) FROM outbox", 0).await;
    let mut holder = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE").execute(&mut *holder).await.unwrap();
    let (call, list) = tokio::join!(get(&doors, "/v1/call/c"), get(&doors, "/v1/calls"));
    for answer in [call, list] {
        answer.is_problem(503, "store_unavailable", None);
        assert_eq!(answer.headers["retry-after"], "1");
    }
    holder.rollback().await.unwrap();
    assert_eq!(get(&doors, "/v1/call/c").await.status, 200);
    drop(doors);
    world.finish().await;
}
