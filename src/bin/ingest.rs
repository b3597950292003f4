//! Takes packets over HTTP, stores them, answers 202.

use std::net::SocketAddr;
use std::process::ExitCode;

use callfleet::broker::Broker;
use callfleet::service::health::Health;
use callfleet::service::life::LifeOptions;
use callfleet::service::listen::{self, AccessOptions};
use callfleet::service::tasks::Tasks;
use callfleet::service::telemetry::LogOptions;
use callfleet::service::{http, start};
use callfleet::spool::Spool;
use callfleet::store::{self, NoStore, Purpose, Store};
use callfleet::{broker, ingest, relay};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Takes call packets over HTTP and answers 202 once they are durable.
///
/// Packets go into PostgreSQL in shared transactions; what they set off is announced on JetStream.
/// NATS may be away: ingest goes on answering, and the announcements follow. /docs has the API.
#[derive(Parser, Debug)]
#[command(
    name = "ingest",
    version,
    after_help = "Example:\n  ingest --database-url postgres://callfleet@localhost/callfleet --nats-url nats://localhost:4222"
)]
struct Program {
    /// Where to listen
    #[arg(long, env = "CALLFLEET_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    access: AccessOptions,
    #[command(flatten)]
    store: store::Options,
    #[command(flatten)]
    broker: broker::Options,
    #[command(flatten)]
    ingest: ingest::Options,
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
    let policy = program.life.policy()?;
    let listener = listen::bind(program.listen, &program.access).await?;
    // Not the role's own health: it is ready as long as it can keep packets somewhere.
    let broker = Broker::open(&program.broker, "ingest", &Health::new()).await?;
    let spool = Spool::new(broker.clone(), program.ingest.spool_r1);
    let store = Store::open(&program.store, "ingest", Purpose::Role)?;
    let is_cold = !is_there(&store, &spool).await?;
    let health = Health::until(shutdown.clone());
    let mut tasks = Tasks::new(shutdown.clone());
    let (relay, messages) = relay::channel();
    tasks.spawn("relay", relay::run_once_connected(store.clone(), broker, messages, shutdown.clone()));
    let ingest = ingest::Ingest { store: store.clone(), relay, policy, spool, is_cold, health: health.clone() };
    let router = ingest::start(&program.ingest, &ingest, &mut tasks).merge(health.router());
    drop(ingest);
    tracing::info!("ingest listens on http://{}", listener.local_addr()?);
    tasks.spawn("HTTP server", http::serve(listener, router, shutdown));
    let ended = tasks.join().await;
    store.close(start::SHUTDOWN_DEADLINE).await;
    ended
}

/// Whether PostgreSQL is there; when nobody is, the spool will do to begin with.
async fn is_there(store: &Store, spool: &Spool) -> anyhow::Result<bool> {
    match store.answers().await {
        Ok(()) => store::schema::check(store).await.map(|()| true),
        Err(NoStore::Away(place) | NoStore::Standby(place)) if spool.may_keep() => {
            tracing::warn!(place, "PostgreSQL does not answer yet: packets go to the spool");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
