//! Takes ended calls to the AI service and records what comes of it; looks after calls that wait.

use std::net::SocketAddr;
use std::process::ExitCode;

use callfleet::broker::{self, Broker, topology};
use callfleet::reconcile::{self, Intervals, Reconciler};
use callfleet::service::health::Health;
use callfleet::service::life::LifeOptions;
use callfleet::service::listen::{self, AccessOptions};
use callfleet::service::tasks::Tasks;
use callfleet::service::telemetry::LogOptions;
use callfleet::service::{http, start};
use callfleet::store::{self, Purpose, Store};
use callfleet::{ai, relay};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Takes ended calls to the AI service, records transcripts and failures, and sees to it that no
/// call waits for nothing.
///
/// Run as many as you like: a call is held by one of them at a time. The address has health and
/// metrics only: /healthz, /readyz, /metrics.
#[derive(Parser, Debug)]
#[command(
    name = "ai-worker",
    version,
    after_help = "Example:\n  ai-worker --database-url postgres://callfleet@localhost/callfleet --nats-url nats://localhost:4222 --ai-url http://localhost:8001/v1/transcribe"
)]
struct Program {
    /// Where to listen
    #[arg(long, env = "CALLFLEET_LISTEN", default_value = "127.0.0.1:8003", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    access: AccessOptions,
    #[command(flatten)]
    store: store::Options,
    #[command(flatten)]
    broker: broker::Options,
    #[command(flatten)]
    ai: ai::Options,
    #[command(flatten)]
    life: LifeOptions,
    #[command(flatten)]
    log: LogOptions,
}

fn main() -> ExitCode {
    let program = Program::parse();
    let log = program.log.clone();
    start::main(&log, |shutdown| run(program, shutdown))
}

async fn run(program: Program, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Program { listen, access, store, broker, ai, life, log: _ } = program;
    let policy = life.policy()?;
    ai.check()?;
    let listener = listen::bind(listen, &access).await?;
    let store = Store::connect(&store, "ai-worker", Purpose::Role).await?;
    let health = Health::until(shutdown.clone());
    let broker = Broker::connect(&broker, "ai-worker", &health).await?;
    match topology::ensure(&broker).await {
        // The reconciler makes them as soon as it can.
        Err(error) if error.is_transient() => tracing::warn!(%error, "the streams cannot be looked at yet"),
        ensured => drop(ensured?),
    }

    let mut tasks = Tasks::new(shutdown.clone());
    let (relay, messages) = relay::channel();
    tasks.spawn("relay", relay::run(store.clone(), broker.clone(), messages, shutdown.clone()));
    tasks.spawn("database watch", store::watch::run(store.clone(), health.clone(), shutdown.clone()));
    tasks.spawn("backlog watch", reconcile::watch_backlog(store.clone(), health.clone(), shutdown.clone()));
    let (policy, worker_policy) = (policy.clone(), policy);
    let reconciler = Reconciler { store: store.clone(), broker: broker.clone(), relay: relay.clone(), policy };
    tasks.spawn("reconciler", reconcile::run(reconciler, Intervals::from(&life), shutdown.clone()));
    let worker = ai::Worker {
        store: store.clone(),
        broker: broker.clone(),
        relay,
        policy: worker_policy,
        health: health.clone(),
    };
    tasks.spawn("worker", ai::run(ai, worker, shutdown.clone()));
    tracing::info!("ai-worker listens on http://{}", listener.local_addr()?);
    tasks.spawn("HTTP server", http::serve(listener, health.router(), shutdown));
    let ended = tasks.join().await;
    broker.flush().await;
    store.close(start::SHUTDOWN_DEADLINE).await;
    ended
}
