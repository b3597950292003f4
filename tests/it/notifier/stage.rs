//! A notifier over a test's own world, and calls that go through their states without a worker.

use std::net::SocketAddr;
use std::time::Duration;

use callfleet::broker::Broker;
use callfleet::domain::{Call, CallId, CallKey, Change, Holder, Metadata, Tenant};
use callfleet::notifier::{self, Notifier, Options};
use callfleet::service::health::Health;
use callfleet::service::http;
use callfleet::service::tasks::Tasks;
use callfleet::store::{Store, calls, change};
use chrono::{DateTime, Utc};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::Client;
use crate::wait;
use crate::world::World;

/// Who works on this test's calls.
pub(super) const HOLDER: Holder<'static> = Holder { token: Uuid::from_u128(7), worker: "test" };

/// A world with a notifier that serves.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) address: SocketAddr,
    shutdown: CancellationToken,
    tasks: Tasks,
}

/// A notifier's settings, far from any of its limits and without heartbeats.
pub(super) fn options() -> Options {
    Options {
        ws_heartbeat: Duration::from_hours(1),
        ws_connections: 100,
        ws_queue: 4096,
        ws_write_timeout: Duration::from_secs(30),
        allowed_origins: Vec::new(),
    }
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        let world = World::new().await;
        let (store, broker) = (world.store.clone(), world.broker.clone());
        Self::over(world, options, store, broker).await
    }

    /// A notifier over `world` that has its own ways to the servers.
    pub(super) async fn over(world: World, options: Options, store: Store, broker: Broker) -> Self {
        let shutdown = CancellationToken::new();
        let notifier = Notifier::new(options, store, shutdown.clone());
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that a reader that does not read is noticed before the kernel has taken megabytes.
        socket.set_send_buffer_size(8 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("HTTP server", http::serve(listener, notifier::router(notifier.clone()), shutdown.clone()));
        let health = Health::new();
        health.failing("feed", "not followed yet");
        tasks.spawn("feed", notifier::run(notifier, broker, health.clone()));
        // Who comes before the stream is followed gets a second snapshot, which few tests expect.
        wait::until("the stream is followed", async || health.failures().is_empty()).await;
        Self { world, address, shutdown, tasks }
    }

    /// A client that has read the snapshot.
    pub(super) async fn client(&self, query: &str) -> Client {
        let mut client = Client::open(self.address, query).await;
        assert_eq!(client.event("heartbeat").await["upstream"]["status"], "ok");
        client
    }

    /// Tells the notifier to end.
    pub(super) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Opens calls, all in one transaction.
    pub(super) async fn open(&self, ids: impl IntoIterator<Item = &str>, queue: Option<&str>) -> Vec<CallKey> {
        let store = &self.world.store;
        let now = store.now();
        let metadata = Metadata { queue: queue.map(str::to_owned), ..Metadata::default() };
        let openings: Vec<Change> = ids
            .into_iter()
            .map(|id| {
                let id = CallId::new(id).unwrap();
                Call::open(Tenant::open_mode(), id, metadata.clone(), now, &self.world.policy)
            })
            .collect();
        let mut tx = store.begin().await.unwrap();
        let (_, outgoing) = calls::open(&mut tx, &openings, now).await.unwrap();
        tx.commit().await.unwrap();
        self.world.relay.send(outgoing);
        openings.iter().map(|opening| opening.call.key).collect()
    }

    /// Takes a call one step on.
    pub(super) async fn step(&self, key: CallKey, decide: impl Fn(&Call, DateTime<Utc>) -> Change) {
        let changed = change::change(&self.world.store, &[key], |call, now| Some(decide(call, now))).await.unwrap();
        assert_eq!(changed.stored.len(), 1);
        self.world.relay.send(changed.outgoing);
    }

    pub(super) async fn complete(&self, key: CallKey) {
        self.step(key, |call, now| call.complete("test", "over", now, &self.world.policy).unwrap()).await;
    }

    pub(super) async fn claim(&self, key: CallKey) {
        self.step(key, |call, now| call.claim(1, HOLDER, now, &self.world.policy).unwrap()).await;
    }

    pub(super) async fn succeed(&self, key: CallKey) {
        self.step(key, |call, now| call.succeed(HOLDER, now).unwrap()).await;
    }

    /// From its first packet to the archive.
    pub(super) async fn archive(&self, key: CallKey) {
        self.complete(key).await;
        self.claim(key).await;
        self.succeed(key).await;
    }

    /// Ends the notifier and takes the world down; the calls' jobs are nobody's here.
    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.tasks.join().await.unwrap();
        self.world.abandon().await;
    }
}
