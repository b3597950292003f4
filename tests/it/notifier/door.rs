//! Who is let in, and who is told why not.

use callfleet::notifier::Options;
use tokio_tungstenite::tungstenite::Message;

use super::client::{self, Client};
use super::stage::{Stage, options};

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused_before_the_upgrade() {
    let stage = Stage::with(Options { allowed_origins: vec!["https://ops.example".to_owned()], ..options() }).await;
    let with_origin = |origin: String| {
        let mut request = client::request(stage.address, "");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        client::open(stage.address, request)
    };
    let (status, problem) = with_origin("http://evil.example".to_owned()).await.err().unwrap();
    assert_eq!((status, &problem["code"]), (403, &"forbidden_origin".into()));
    assert!(with_origin(format!("http://{}", stage.address)).await.is_ok());
    assert!(with_origin("https://ops.example".to_owned()).await.is_ok());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_is_refused_with_its_field() {
    let stage = Stage::new().await;
    for (query, field) in [
        ("?state=failed", "state"),
        ("?state=", "state"),
        ("?queue=", "queue"),
        ("?call_id=a%00b", "call_id"),
        ("?sate=FAILED", "query"),
    ] {
        let refused = client::open(stage.address, client::request(stage.address, query)).await;
        let (status, problem) = refused.err().unwrap();
        assert_eq!((status, &problem["field"]), (422, &field.into()), "{query}");
        assert!(problem["request_id"].is_string());
    }
    for id in ["%00", "a%0ab", "%ff", &"x".repeat(129)] {
        let mut request = client::request(stage.address, "");
        *request.uri_mut() = format!("ws://{}/api/v1/ws/supervisor/{id}", stage.address).parse().unwrap();
        let (status, problem) = client::open(stage.address, request).await.err().unwrap();
        assert_eq!((status, &problem["field"]), (422, &"supervisor_id".into()), "{id}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_page_is_told_that_this_is_a_web_socket() {
    let stage = Stage::new().await;
    let head = client::answer(stage.address, "").await;
    assert!(head.starts_with("http/1.1 426 ") && head.contains("application/problem+json"), "{head}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_subprotocol_makes_a_plain_client() {
    let stage = Stage::new().await;
    let headers = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-ws\r\n";
    let head = client::answer(stage.address, headers).await;
    assert!(head.starts_with("http/1.1 101 ") && !head.contains("sec-websocket-protocol"), "{head}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_too_many_is_told_to_come_back() {
    let stage = Stage::with(Options { ws_connections: 1, ..options() }).await;
    let first = stage.client("").await;
    let (status, problem) = client::open(stage.address, client::request(stage.address, "")).await.err().unwrap();
    assert_eq!((status, &problem["code"]), (503, &"overloaded".into()));
    drop(first);
    crate::wait::until("a free place", async || {
        client::open(stage.address, client::request(stage.address, "")).await.is_ok()
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plain_client_says_is_read_over_unless_it_is_too_long() {
    let stage = Stage::new().await;
    let mut client = stage.client("").await;
    for text in ["{\"type\":\"ping\"}", "not json", ""] {
        client.send(Message::text(text)).await;
    }
    client.send(Message::binary(vec![0xff; 16 * 1024])).await;
    stage.open(["a"], None).await;
    assert_eq!(client.change().await["call_id"], "a");
    client.send(Message::text("x".repeat(16 * 1024 + 1))).await;
    let frame = client.event("error").await;
    assert_eq!((&frame["code"], &frame["retryable"]), (&"bad_frame".into(), &false.into()));
    assert!(frame["detail"].as_str().unwrap().contains("16384"), "{frame}");
    assert_eq!(client.next().await.unwrap_err(), 4500);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_without_end_is_closed() {
    let stage = Stage::new().await;
    let mut client = Client::open(stage.address, "").await;
    for _ in 0..=1000 {
        client.send(Message::text("x")).await;
    }
    assert_eq!(client.event("error").await["code"], "too_many_frames");
    assert_eq!(client.next().await.unwrap_err(), 4501);
    stage.end().await;
}
