//! Workers and an AI service in one world.

use std::net::SocketAddr;
use std::time::Duration;

use callfleet::ai::{self, Client, Context, Parts};
use callfleet::dev::mock_ai::{self, Stats};
use callfleet::domain::{CallKey, Policy};
use callfleet::service::tasks::Tasks;
use callfleet::store::Store;
use callfleet::wire::job::Job;
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// The AI service: gone when this is dropped.
pub(crate) struct Ai {
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    _serving: JoinSet<anyhow::Result<()>>,
}

impl Ai {
    /// A service that answers at once and never fails, unless told otherwise.
    pub(crate) async fn start(control: serde_json::Value) -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let options = mock_ai::Options { failure_rate: 0.0, latency: Duration::ZERO, ..mock_ai::Options::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(mock_ai::run(options, listener, CancellationToken::new()));
        let ai = Self { address, http: reqwest::Client::builder().no_proxy().build().unwrap(), _serving: serving };
        ai.control(control).await;
        ai
    }

    pub(crate) async fn control(&self, change: serde_json::Value) {
        let url = format!("http://{}/control", self.address);
        let answer = self.http.put(url).body(change.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{change}");
    }

    pub(crate) async fn stats(&self) -> Stats {
        let url = format!("http://{}/stats", self.address);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }
}

/// How a worker asks this service.
pub(crate) fn options(address: SocketAddr) -> ai::Options {
    ai::Options {
        ai_url: Some(format!("http://{address}/v1/transcribe").parse().unwrap()),
        ai_timeout: Duration::from_secs(10),
        worker_concurrency: 16,
        worker_name: None,
    }
}

/// A worker's steps without its loop: nothing renews its leases unless the test does.
pub(crate) struct Hand {
    pub(crate) context: Context,
    _tasks: Tasks,
}

impl Hand {
    pub(crate) fn new(world: &World, name: &str, address: SocketAddr) -> Self {
        Self::with_policy(world, name, address, world.policy.clone())
    }

    pub(crate) fn with_policy(world: &World, name: &str, address: SocketAddr, policy: Policy) -> Self {
        Self::of(world, world.store.clone(), name, address, policy)
    }

    /// With a way of its own to the database.
    pub(crate) fn over(world: &World, store: Store, name: &str, address: SocketAddr) -> Self {
        Self::of(world, store, name, address, world.policy.clone())
    }

    fn of(world: &World, store: Store, name: &str, address: SocketAddr, policy: Policy) -> Self {
        let mut tasks = Tasks::new(CancellationToken::new());
        let parts = Parts {
            broker: world.broker.clone(),
            store,
            relay: world.relay.clone(),
            client: Client::new(&options(address)).unwrap(),
            policy,
            worker: name.to_owned(),
            rng: Rng::with_seed(7),
        };
        Self { context: Context::new(parts, &mut tasks), _tasks: tasks }
    }

    /// Takes a job through its steps.
    pub(crate) async fn run(&self, job: &Job) -> ai::Verdict {
        ai::job::run(&self.context, job, &CancellationToken::new()).await
    }
}

/// The job of a call's first generation.
pub(crate) fn job(key: CallKey) -> Job {
    Job { v: 1, key: key.as_uuid(), generation: 1 }
}

/// The attempts of a call, in order: class and whether it was charged.
pub(crate) async fn attempts(world: &World, key: CallKey) -> Vec<(Option<String>, bool)> {
    sqlx::query_as("SELECT class, charged FROM attempts WHERE call_key = $1 ORDER BY attempt")
        .bind(key.as_uuid())
        .fetch_all(&world.pool)
        .await
        .unwrap()
}

/// Attempts of one class each, all charged but the given.
pub(crate) fn charged(classes: &[&str]) -> Vec<(Option<String>, bool)> {
    classes.iter().map(|class| (Some((*class).to_owned()), true)).collect()
}
