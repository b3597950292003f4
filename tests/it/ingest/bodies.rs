//! What is wrong with a request is said; what is right beside it is stored.

use std::io::Write;

use axum::body::Body;
use axum::http::Request;
use callfleet::ingest::Options;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::client::{encoded, get, packet, post, send};
use crate::world::{World, ingest_options};

#[tokio::test]
async fn a_hostile_call_id_is_one_call_or_one_clear_refusal() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let sip = "f81d4fae/7dec+11%d0<a7>65\"00\\a0?c9:1e*6b[f6]{x}(y)@host.example";
    let longest = "x".repeat(255);
    let ids = [sip, "*", ">", "a.b.>", "'; DROP TABLE calls; --", "a/b", "a%2Fb", "é", " ", &longest];
    for id in ids {
        let answer = packet(&doors, id, 1, "x").await;
        assert_eq!((answer.status.as_u16(), answer.text("call_id")), (202, id));
        assert_eq!(get(&doors, &format!("/v1/call/{}", encoded(id))).await.text("call_id"), id);
    }
    assert_eq!(world.value("SELECT count(*) FROM calls").await, ids.len());
    for id in ["%00", "a%0Ab", "%ff%fe", &"x".repeat(256)] {
        let body = r#"{"sequence":1,"data":"x"}"#;
        post(&doors, &format!("/v1/call/stream/{id}"), body).await.is_problem(422, "bad_field", Some("call_id"));
    }
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_is_wrong_is_refused_by_what_is_wrong_with_it() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let path = "/v1/call/stream/c";
    post(&doors, path, "{\"sequence\":").await.is_problem(400, "not_json", None);
    post(&doors, path, "").await.is_problem(400, "not_json", None);
    post(&doors, path, r#"{"sequence":"x","data":"x"}"#).await.is_problem(422, "bad_field", Some("sequence"));
    post(&doors, path, r#"{"sequence":1,"data":[]}"#).await.is_problem(422, "bad_field", Some("data"));
    let large = format!(r#"{{"sequence":1,"data":"{}"}}"#, "x".repeat(65_536));
    let answer = post(&doors, path, large.clone()).await;
    answer.is_problem(413, "body_too_large", None);
    assert!(answer.text("detail").contains("65536"));
    post(&doors, "/v1/calls/none/end", "").await.is_problem(404, "unknown_call", None);
    get(&doors, "/v1/call/none").await.is_problem(404, "unknown_call", None);
    assert_eq!(world.value("SELECT count(*) FROM calls").await, 0);
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn the_valid_packets_of_a_batch_are_stored_beside_the_others() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let lines = [
        r#"{"call_id":"a","sequence":1,"data":"x"}"#,
        "not json",
        r#"{"call_id":"b","sequence":1,"data":"\u0000"}"#,
        r#"{"call_id":"a","sequence":"nope","data":"x"}"#,
        r#"{"sequence":1,"data":"x"}"#,
        "",
        r#"{"call_id":"a","sequence":1,"data":"x"}"#,
    ];
    let answer = post(&doors, "/v1/calls/packets", lines.join("\n")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json["accepted"], &answer.json["duplicates"]),
        (202, &2.into(), &1.into())
    );
    let rejected: Vec<_> =
        answer.json["rejected"].as_array().unwrap().iter().map(|r| (r["index"].clone(), r["code"].clone())).collect();
    assert_eq!(
        rejected,
        [(1.into(), "not_json".into()), (3.into(), "bad_field".into()), (4.into(), "bad_field".into())]
    );

    let array =
        format!("[{},{}]", r#"{"call_id":"c","sequence":1,"data":"x"}"#, r#"{"call_id":"c","sequence":2,"data":"y"}"#);
    assert_eq!(post(&doors, "/v1/calls/packets", array).await.json["accepted"], 2);
    assert_eq!(world.value("SELECT count(*) FROM packets").await, 4);
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn a_packed_batch_is_unpacked_within_its_cap() {
    let mut world = World::new().await;
    let doors = world.ingest();
    let pack = |bytes: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let gzip = async |body: Vec<u8>| {
        let request = Request::post("/v1/calls/packets").header("content-encoding", "gzip");
        send(&doors, request.body(Body::from(body)).unwrap()).await
    };
    assert_eq!(gzip(pack(br#"{"call_id":"c","sequence":1,"data":"x"}"#)).await.json["accepted"], 1);
    gzip(pack(&vec![b' '; 64 * 1024 * 1024])).await.is_problem(413, "body_too_large", None);
    gzip(b"no gzip".to_vec()).await.is_problem(400, "not_gzip", None);
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn a_call_takes_no_more_than_its_cap_and_a_copy_is_no_more() {
    let mut world = World::new().await;
    let options = Options { writers: 1, call_max_packets: 3, call_max_bytes: 1000, ..ingest_options() };
    let doors = world.ingest_with(&options);
    for sequence in 1..=3 {
        assert_eq!(packet(&doors, "c", sequence, "x").await.text("status"), "accepted");
    }
    packet(&doors, "c", 4, "x").await.is_problem(413, "call_too_large", None);
    assert_eq!(packet(&doors, "c", 2, "x").await.text("status"), "duplicate");
    packet(&doors, "d", 1, &"x".repeat(1001)).await.is_problem(413, "call_too_large", None);
    // What another process stored counts as well.
    let other = world.ingest_with(&options);
    packet(&other, "c", 5, "x").await.is_problem(413, "call_too_large", None);
    world.until("SELECT count(*) FROM calls WHERE over_limit_at IS NOT NULL", 2).await;
    drop((doors, other));
    world.finish().await;
}
