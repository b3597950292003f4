//! Tells supervisors of every change over WebSockets.

use std::net::SocketAddr;
use std::process::ExitCode;

use callfleet::broker;
use callfleet::notifier::{self, Notifier};
use callfleet::service::health::Health;
use callfleet::service::listen::{self, AccessOptions};
use callfleet::service::tasks::Tasks;
use callfleet::service::telemetry::LogOptions;
use callfleet::service::{http, start};
use callfleet::store::{self, Purpose, Store};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Shows supervisors the calls as they are, and every change as it comes, over WebSockets.
///
/// Connect to `/api/v1/ws/supervisor/{supervisor_id}` with any WebSocket client and read; there is
/// nothing to send. The query string says which calls: `?state=FAILED&queue=sales&call_id=…`, each
/// repeated or separated by commas. NATS may be away: heartbeats then say that no news come.
#[derive(Parser, Debug)]
#[command(
    name = "notifier",
    version,
    after_help = "Example:\n  notifier --database-url postgres://callfleet@localhost/callfleet --nats-url nats://localhost:4222"
)]
struct Program {
    /// Where to listen
    #[arg(long, env = "CALLFLEET_LISTEN", default_value = "127.0.0.1:8002", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    access: AccessOptions,
    #[command(flatten)]
    store: store::Options,
    #[command(flatten)]
    broker: broker::Options,
    #[command(flatten)]
    notifier: notifier::Options,
    #[command(flatten)]
    log: LogOptions,
}

fn main() -> ExitCode {
    let program = Program::parse();
    let log = program.log.clone();
    start::main(&log, |shutdown| run(program, shutdown))
}

async fn run(program: Program, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = listen::bind(program.listen, &program.access).await?;
    let store = Store::connect(&program.store, "notifier", Purpose::Role).await?;
    let health = Health::until(shutdown.clone());
    let notifier = Notifier::new(program.notifier, store.clone(), shutdown.clone());
    let router = notifier::router(notifier.clone()).merge(health.router());
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("database watch", store::watch::run(store.clone(), health.clone(), shutdown.clone()));
    tasks.spawn("feed", notifier::run_connecting(notifier, program.broker, health));
    tracing::info!("notifier listens on ws://{}/api/v1/ws/supervisor/{{supervisor_id}}", listener.local_addr()?);
    tasks.spawn("HTTP server", http::serve(listener, router, shutdown));
    let ended = tasks.join().await;
    store.close(start::SHUTDOWN_DEADLINE).await;
    ended
}
