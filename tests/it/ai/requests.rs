//! What goes over the wire to the AI service, and what may come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use callfleet::ai::classify::Outcome;
use callfleet::ai::client::{ANSWER_MAX_BYTES, Question};
use callfleet::ai::{Client, Verdict};
use callfleet::domain::Class;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::scene::{Ai, Hand, job, options};
use crate::world::World;

async fn serve(router: Router) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, serving)
}

fn question() -> Question {
    Question { job_id: "job".to_owned(), attempt: 1, span: uuid::Uuid::new_v4(), body: Bytes::from_static(b"{}") }
}

async fn class_of(client: &Client) -> Class {
    match client.ask(&question()).await {
        Outcome::Answered(_) => Class::Done,
        Outcome::Failed(failed) => failed.failure.class,
    }
}

#[tokio::test]
async fn a_request_says_which_job_which_attempt_and_what_is_missing() {
    let world = World::new().await;
    let (seen, mut requests) = mpsc::channel::<(HeaderMap, Value)>(4);
    let answer = move |headers: HeaderMap, body: Bytes| {
        let seen = seen.clone();
        async move {
            let body: Value = serde_json::from_slice(&body).unwrap();
            let is_first = headers["x-attempt"] == "1";
            seen.send((headers, body)).await.unwrap();
            let answer = json!({ "transcript": "a\u{0}b", "extra": { "kept": true } }).to_string();
            if is_first { (StatusCode::BAD_GATEWAY, String::new()) } else { (StatusCode::OK, answer) }
        }
    };
    let (address, _serving) = serve(Router::new().route("/v1/transcribe", post(answer))).await;
    let hand = Hand::new(&world, "w1", address);
    let key = world.open("a/b%?\"<>", &[1, 2, 5]).await;
    world.end(key, Some(6)).await;
    world.complete(key).await;
    let delivery = world.take_job().await;

    let Verdict::RetryAfter(delay) = hand.run(&job(key)).await else { panic!("502") };
    world.advance(delay);
    assert_eq!(hand.run(&job(key)).await, Verdict::Done);
    let (first, body) = requests.recv().await.unwrap();
    let (second, same_body) = requests.recv().await.unwrap();
    assert_eq!(body, same_body);
    assert_eq!(body["job_id"], job(key).id());
    assert_eq!((body["call_id"].as_str(), body["tenant"].as_str()), (Some("a/b%?\"<>"), Some("default")));
    assert_eq!(body["packets"][2], json!({ "sequence": 5, "data": "word5" }));
    assert_eq!(body["missing"], json!([[3, 4], [6, 6]]));
    for headers in [&first, &second] {
        assert_eq!(headers["idempotency-key"], job(key).id());
        assert_eq!(headers["content-type"], "application/json");
    }
    assert_eq!((&first["x-attempt"], &second["x-attempt"]), (&"1".parse().unwrap(), &"2".parse().unwrap()));
    let (first, second) = (first["traceparent"].to_str().unwrap(), second["traceparent"].to_str().unwrap());
    assert_eq!(first[..35], second[..35], "attempts share their trace");
    assert_ne!(first, second);

    let stored: (String, String, Value) = sqlx::query_as(
        "SELECT transcript, response, sent FROM results r JOIN attempts a USING (call_key, generation, attempt)",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(stored.0, "a\u{fffd}b");
    assert_eq!(serde_json::from_str::<Value>(&stored.1).unwrap()["extra"]["kept"], true);
    assert_eq!(stored.2, json!([[1, 2], [5, 5]]));
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn one_deadline_covers_a_service_that_hangs_and_one_that_drips() {
    let ai = Ai::start(json!({})).await;
    let patience = Duration::from_millis(700);
    let client = Client::new(&callfleet::ai::Options { ai_timeout: patience, ..options(ai.address) }).unwrap();
    for mode in ["hang", "drip"] {
        ai.control(json!({ "mode": mode })).await;
        let begun = Instant::now();
        assert_eq!(class_of(&client).await, Class::Transient, "{mode}");
        assert!((patience..patience * 4).contains(&begun.elapsed()), "{mode}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_service_that_drops_connections_or_is_not_there_fails_for_now() {
    let ai = Ai::start(json!({ "mode": "refuse" })).await;
    let client = Client::new(&options(ai.address)).unwrap();
    assert_eq!(class_of(&client).await, Class::Transient);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&options(listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let Outcome::Failed(failed) = client.ask(&question()).await else { panic!("nobody is there") };
    assert_eq!(failed.failure.class, Class::Transient);
    assert!(failed.failure.message.starts_with("no connection to the AI service"), "{}", failed.failure.message);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read_to_its_end() {
    let endless = |status| async move {
        let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
        let body = futures_util::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
        (status, Body::from_stream(body)).into_response()
    };
    let router = Router::new()
        .route("/answer", post(move || endless(StatusCode::OK)))
        .route("/refusal", post(move || endless(StatusCode::UNPROCESSABLE_ENTITY)));
    let (address, _serving) = serve(router).await;
    let at = |path| callfleet::ai::Options {
        ai_url: Some(format!("http://{address}{path}").parse().unwrap()),
        ..options(address)
    };
    let Outcome::Failed(failed) = Client::new(&at("/answer")).unwrap().ask(&question()).await else { panic!() };
    assert_eq!(failed.failure.class, Class::Invalid);
    assert!(failed.failure.message.contains(&ANSWER_MAX_BYTES.to_string()));
    assert_eq!(class_of(&Client::new(&at("/refusal")).unwrap()).await, Class::Permanent);
}

#[tokio::test]
async fn a_redirect_does_not_take_the_packets_elsewhere() {
    let (seen, mut elsewhere) = mpsc::channel::<()>(1);
    let router = Router::new()
        .route(
            "/v1/transcribe",
            post(|| async { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]) }),
        )
        .route("/elsewhere", post(move || async move { seen.try_send(()).unwrap() }));
    let (address, _serving) = serve(router).await;
    assert_eq!(class_of(&Client::new(&options(address)).unwrap()).await, Class::Transient);
    assert!(elsewhere.try_recv().is_err());
}
