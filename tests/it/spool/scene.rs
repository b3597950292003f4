//! An ingest whose ways to PostgreSQL and to NATS a test can cut.

use axum::Router;
use callfleet::broker::{self, Broker};
use callfleet::ingest;
use callfleet::service::health::Health;
use callfleet::spool::Spool;
use callfleet::store::{Purpose, Store};
use callfleet::wire::spool::{Spooled, SpooledEntry, messages};
use chrono::{DateTime, Utc};

use crate::proxy::Proxy;
use crate::wait;
use crate::world::{World, database, ingest_options, setting};

/// The ingest, its doors, and the wires behind it.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) doors: Router,
    pub(super) postgres: Proxy,
    pub(super) nats: Proxy,
    /// Whether a packet would be accepted.
    pub(super) health: Health,
}

impl Scene {
    /// Everything is there, and has been seen to be.
    pub(super) async fn new() -> Self {
        let scene = Self::cold(World::new().await, &ingest_options(), true).await;
        scene.until_storing().await;
        scene
    }

    /// As [`Scene::new`], in a world that is there already, with other options; `is_there` says
    /// whether PostgreSQL is.
    pub(super) async fn cold(mut world: World, options: &ingest::Options, is_there: bool) -> Self {
        let postgres = Proxy::to(&world.database_url).await;
        let nats = Proxy::to(&setting("NATS_URL")).await;
        if !is_there {
            postgres.cut();
        }
        let store = Store::open(&database(&postgres.url), "test", Purpose::Role).unwrap();
        let settings = broker::Settings { nats_prefix: world.name.parse().unwrap(), ..broker::Settings::default() };
        let through = broker::Options { nats_url: nats.url.parse().unwrap(), settings };
        let broker = Broker::open(&through, "test", &Health::new()).await.unwrap();
        wait::soon("the connection", broker.connected()).await;
        let health = Health::new();
        let ingest = ingest::Ingest {
            store,
            relay: world.relay.clone(),
            policy: world.policy.clone(),
            spool: Spool::new(broker, options.spool_r1),
            is_cold: !is_there,
            health: health.clone(),
        };
        let doors = ingest::start(options, &ingest, &mut world.tasks);
        Self { world, doors, postgres, nats, health }
    }

    /// Waits until the ingest has given a sign of life.
    pub(super) async fn until_storing(&self) {
        let since = "SELECT count(*) > 0 FROM ingests WHERE seen_at > now() - interval '2 s'";
        self.world.until(since, true).await;
    }

    /// Waits until everything in the spool is stored.
    pub(super) async fn until_drained(&self) {
        self.world.until_messages("CALL_SPOOL", 0).await;
    }
}

/// A packet as the spool holds it.
pub(super) fn spooled(call_id: &str, sequence: i64, received_at: DateTime<Utc>) -> SpooledEntry<'_> {
    SpooledEntry {
        tenant: "default".into(),
        call_id: call_id.into(),
        received_at,
        what: Spooled::Packet {
            sequence,
            data: format!("word{sequence}").into(),
            sent_at: None,
            end: None,
            metadata: std::borrow::Cow::default(),
        },
    }
}

/// Puts a message with these entries into the spool, as an ingest that died afterwards would have.
pub(super) async fn spool(world: &World, entries: &[SpooledEntry<'_>]) {
    for (_, message) in messages(entries) {
        world.publish("call.spool.elsewhere", std::str::from_utf8(&message).unwrap()).await;
    }
}
