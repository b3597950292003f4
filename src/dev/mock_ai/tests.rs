use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Options, run};

struct World {
    url: String,
    client: reqwest::Client,
    shutdown: CancellationToken,
    #[expect(dead_code, reason = "held so that the service's end is not an unobserved task")]
    service: JoinSet<anyhow::Result<()>>,
}

impl World {
    async fn start(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let mut service = JoinSet::new();
        service.spawn(run(options, listener, shutdown.clone()));
        Self { url, client: reqwest::Client::new(), shutdown, service }
    }

    fn ask(&self, key: &str) -> reqwest::RequestBuilder {
        let job = json!({ "packets": [{"sequence": 2, "data": "world"}, {"sequence": 1, "data": "hello"}] });
        self.client.post(format!("{}/v1/transcribe", self.url)).header("idempotency-key", key).json(&job)
    }

    async fn status(&self, key: &str) -> u16 {
        self.ask(key).send().await.unwrap().status().as_u16()
    }

    async fn control(&self, change: Value) -> (StatusCode, Value) {
        let response = self.client.put(format!("{}/control", self.url)).body(change.to_string()).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    async fn until_in_flight(&self, wanted: u64) {
        let poll = async {
            while self.get("/stats").await["in_flight"] != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), poll).await.expect("in_flight never got there");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn steady() -> Options {
    Options { failure_rate: 0.0, latency: Duration::ZERO, ..Options::default() }
}

#[tokio::test]
async fn a_transcript_is_the_data_in_order_of_sequence() {
    let world = World::start(steady()).await;
    let answer: Value = world.ask("k").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["transcript"], "hello world");
    assert_eq!(answer["segments"][0], json!({"sequence": 1, "text": "hello"}));
    assert_eq!(answer["usage"]["packets"], 2);
}

#[tokio::test]
async fn the_same_seed_fails_the_same_requests_at_the_asked_rate() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let world = World::start(Options { latency: Duration::ZERO, seed: 7, ..Options::default() }).await;
        let mut statuses = Vec::new();
        for request in 0..200 {
            statuses.push(world.status(&request.to_string()).await);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    let failures = runs[0].iter().filter(|status| **status == 500).count();
    assert!((30..70).contains(&failures), "{failures} of 200 at a rate of 0.25");
}

#[tokio::test]
async fn control_shows_its_exact_shape_and_changes_only_what_it_is_given() {
    let world = World::start(Options::default()).await;
    let mut shape =
        json!({"failure_rate":0.25,"latency_ms":50,"jitter_ms":0,"mode":"normal","retry_after_s":2,"capacity":null});
    assert_eq!(world.get("/control").await, shape);
    let (status, answer) = world.control(json!({"capacity": 3, "failure_rate": 0})).await;
    shape["capacity"] = json!(3);
    shape["failure_rate"] = json!(0.0);
    assert_eq!((status, answer), (StatusCode::OK, shape.clone()));
    assert_eq!(world.get("/control").await, shape);
}

#[tokio::test]
async fn a_bad_change_is_refused_whole_and_names_its_field() {
    let world = World::start(Options::default()).await;
    let before = world.get("/control").await;
    for (field, value) in [
        ("failure_rate", json!(1.5)),
        ("failure_rate", json!("0.5")),
        ("latency_ms", json!(-1)),
        ("jitter_ms", json!(0.5)),
        ("mode", json!("broken")),
        ("retry_after_s", json!(1_000_000)),
        ("capacity", json!("many")),
        ("fail_first", json!(null)),
    ] {
        let (status, problem) = world.control(json!({"latency_ms": 1, field: value})).await;
        let status = (status, problem["field"].as_str());
        assert_eq!(status, (StatusCode::UNPROCESSABLE_ENTITY, Some(field)), "{problem}");
    }
    let (status, problem) = world.control(json!({"failure_rat": 1})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().unwrap().contains("failure_rat"), "{problem}");
    let (status, _) = world.control(json!([])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let not_json = world.client.put(format!("{}/control", world.url)).body("{").send().await.unwrap();
    assert_eq!(not_json.status(), StatusCode::BAD_REQUEST);
    assert_eq!(world.get("/control").await, before);
}

#[tokio::test]
async fn each_key_fails_as_often_as_asked_and_is_counted_when_it_comes_again() {
    let world = World::start(Options { fail_first: 2, ..steady() }).await;
    let mut statuses = Vec::new();
    for key in ["a", "b", "a", "a", "b", "b"] {
        statuses.push(world.status(key).await);
    }
    assert_eq!(statuses, [500, 500, 500, 200, 500, 200]);
    let stats = world.get("/stats").await;
    let expected = json!({"requests":6,"successes":2,"failures":4,"in_flight":0,"in_flight_max":1,"repeated_keys":4});
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn outage_rate_limit_unauthorized_and_garbage_answer_as_named() {
    let world = World::start(steady()).await;
    for (mode, expected) in [("outage", 503), ("rate_limit", 429), ("unauthorized", 401), ("garbage", 200)] {
        world.control(json!({"mode": mode, "retry_after_s": 9})).await;
        let response = world.ask("k").send().await.unwrap();
        assert_eq!(response.status(), expected, "{mode}");
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after, (mode == "rate_limit").then(|| "9".to_owned()));
        assert!(serde_json::from_slice::<Value>(&response.bytes().await.unwrap()).is_ok() != (mode == "garbage"));
    }
}

#[tokio::test]
async fn refuse_drops_the_ai_path_and_nothing_else() {
    let world = World::start(steady()).await;
    world.control(json!({"mode": "refuse"})).await;
    let error = world.ask("k").send().await.unwrap_err();
    assert!(error.is_request(), "{error:?}");
    assert_eq!(world.get("/stats").await["failures"], 1);
    assert_eq!(world.get("/control").await["mode"], "refuse");
}

#[tokio::test]
async fn a_hanging_request_is_in_flight_until_its_client_leaves() {
    let world = World::start(steady()).await;
    world.control(json!({"mode": "hang"})).await;
    let mut client = JoinSet::new();
    client.spawn(world.ask("k").send());
    world.until_in_flight(1).await;
    client.shutdown().await;
    world.until_in_flight(0).await;
    assert_eq!(world.get("/stats").await["failures"], 1);
}

#[tokio::test]
async fn requests_over_the_capacity_are_told_to_come_back() {
    let world = World::start(steady()).await;
    world.control(json!({"mode": "hang", "capacity": 1})).await;
    let mut first = JoinSet::new();
    first.spawn(world.ask("a").send());
    world.until_in_flight(1).await;
    assert_eq!(world.status("b").await, 429);
}

#[tokio::test]
async fn a_dripped_answer_is_right_but_slow() {
    let world = World::start(steady()).await;
    world.control(json!({"mode": "drip"})).await;
    let mut response = world.ask("k").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.chunk().await.unwrap().unwrap().as_ref(), b"{");
    assert_eq!(response.chunk().await.unwrap().unwrap().as_ref(), b"\"");
}
