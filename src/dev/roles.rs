//! All roles in one process: they share a store, a broker and a relay, and one port.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::mock_ai;
use super::up::UpOptions;
use crate::broker::{self, Broker, ServerUrl, topology};
use crate::notifier::{self, Notifier};
use crate::reconcile::{self, Intervals, Reconciler};
use crate::service::health::Health;
use crate::service::http;
use crate::service::tasks::Tasks;
use crate::spool::Spool;
use crate::store::{self, Purpose, Store, schema};
use crate::{ai, ingest, relay};

/// Connections to PostgreSQL that all roles share.
const DATABASE_CONNECTIONS: u32 = 24;
/// Longest time a statement may take.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where everything is.
pub(super) struct Places {
    pub(super) database_url: String,
    pub(super) nats_url: ServerUrl,
    /// NATS is a private one.
    pub(super) owns_nats: bool,
    pub(super) listener: TcpListener,
    pub(super) ai_listener: Option<TcpListener>,
}

/// Makes schema and topology and starts all roles.
pub(super) async fn start(options: UpOptions, places: Places, shutdown: CancellationToken) -> anyhow::Result<Tasks> {
    let policy = options.life.policy()?;
    let database = store::Options {
        database_url: places.database_url,
        database_connections: DATABASE_CONNECTIONS,
        database_timeout: DATABASE_TIMEOUT,
    };
    let store = Store::connect_unchecked(&database, "up", Purpose::Role).await?;
    schema::migrate(&store).await?;
    schema::check(&store).await?;
    let health = Health::until(shutdown.clone());
    let broker = broker::Options { nats_url: places.nats_url, settings: options.streams };
    let broker = Broker::connect(&broker, "up", &health).await?;
    topology::ensure(&broker).await?;

    let mut tasks = Tasks::new(shutdown.clone());
    let (relay, messages) = relay::channel();
    tasks.spawn("relay", relay::run(store.clone(), broker.clone(), messages, shutdown.clone()));
    tasks.spawn("database watch", store::watch::run(store.clone(), health.clone(), shutdown.clone()));
    tasks.spawn("backlog watch", reconcile::watch_backlog(store.clone(), health.clone(), shutdown.clone()));
    if let Some(listener) = places.ai_listener {
        tasks.spawn("mock AI service", mock_ai::run(options.mock_ai, listener, shutdown.clone()));
    }
    // The private nats-server writes through.
    let spool = Spool::new(broker.clone(), options.ingest.spool_r1 || places.owns_nats);
    let ingest = ingest::Ingest {
        store: store.clone(),
        relay: relay.clone(),
        policy: policy.clone(),
        spool,
        is_cold: false,
        health: health.clone(),
    };
    let doors = ingest::start(&options.ingest, &ingest, &mut tasks);
    drop(ingest);
    let notifier = Notifier::new(options.notifier, store.clone(), shutdown.clone());
    let router = doors.merge(notifier::router(notifier.clone())).merge(health.router());
    tasks.spawn("notifier", notifier::run(notifier, broker.clone(), health.clone()));
    let reconciler =
        Reconciler { store: store.clone(), broker: broker.clone(), relay: relay.clone(), policy: policy.clone() };
    tasks.spawn("reconciler", reconcile::run(reconciler, Intervals::from(&options.life), shutdown.clone()));
    for _ in 0..options.workers {
        let worker = ai::Worker {
            store: store.clone(),
            broker: broker.clone(),
            relay: relay.clone(),
            policy: policy.clone(),
            health: health.clone(),
        };
        tasks.spawn("worker", ai::run(options.ai.clone(), worker, shutdown.clone()));
    }
    tasks.spawn("HTTP server", http::serve(places.listener, router, shutdown));
    Ok(tasks)
}
