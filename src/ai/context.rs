//! What the steps of a job share: the store, the service, the leases, and the batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::leases::Leases;
use crate::broker::Broker;
use crate::domain::{Call, Policy, Refused};
use crate::relay;
use crate::service::tasks::Tasks;
use crate::spool::{self, Waiting};
use crate::store::claim::{Claim, Claimed, claim};
use crate::store::group::{Flush, Group, group};
use crate::store::record::{Record, record};
use crate::store::{Session, Store, StoreError};
use crate::wire::outgoing::Outgoing;

/// Claims or records that share a transaction, at most.
const MAX_ROWS: usize = 256;
/// Claims or records that wait, at most: more than there are slots never come.
const MAX_WAITING: usize = 16 * 1024;
/// Transactions of each kind at a time: one flushes while the next one collects.
const WRITERS: usize = 2;
/// How far the clocks of PostgreSQL and nats-server may differ.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(5);
/// Bytes of packets and requests that all jobs of a worker hold in memory together.
const MEMORY_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// What a worker works with. Shared by all of its jobs.
#[derive(Debug)]
pub struct Context {
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) policy: Policy,
    pub(super) worker: Arc<str>,
    pub(super) leases: Leases,
    pub(super) claims: Group<Claim, Claimed>,
    pub(super) records: Group<Arc<Record>, Result<Call, Refused>>,
    pub(super) memory: Memory,
    pub(super) away: Away,
    /// Asks to begin no more.
    pub(super) ending: CancellationToken,
    rng: Mutex<Rng>,
}

/// What a context is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Where jobs come from, and where packets may wait.
    pub broker: Broker,
    /// Where committed messages go.
    pub relay: relay::Handle,
    /// The AI service.
    pub client: Client,
    /// What calls live by.
    pub policy: Policy,
    /// The worker's name.
    pub worker: String,
    /// For delays.
    pub rng: Rng,
}

impl Context {
    /// A context whose batches are written by `tasks` until it is dropped, and whose jobs no longer
    /// begin once those are told to stop.
    pub fn new(parts: Parts, tasks: &mut Tasks) -> Self {
        let Parts { store, broker, relay, client, policy, worker, rng } = parts;
        let (claims, claim_writer) = group("claims", MAX_WAITING, MAX_ROWS);
        let (records, record_writer) = group("records", MAX_WAITING, MAX_ROWS);
        for _ in 0..WRITERS {
            let batch = || Batch {
                session: Session::new(store.clone()),
                broker: broker.clone(),
                policy: policy.clone(),
                relay: relay.clone(),
            };
            let (claims, records) = (claim_writer.clone().run(batch()), record_writer.clone().run(batch()));
            tasks.spawn("claims", claims.map(Ok));
            tasks.spawn("records", records.map(Ok));
        }
        Self {
            store,
            client,
            policy,
            worker: worker.into(),
            leases: Leases::default(),
            claims,
            records,
            memory: Memory::new(MEMORY_MAX_BYTES),
            away: Away::default(),
            ending: tasks.shutdown().clone(),
            rng: Mutex::new(rng),
        }
    }

    /// The leases of the jobs that run.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Something random.
    pub(super) fn with_rng<T>(&self, use_it: impl FnOnce(&mut Rng) -> T) -> T {
        use_it(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Claims or records that came together, on a connection of their own.
struct Batch {
    session: Session,
    broker: Broker,
    policy: Policy,
    relay: relay::Handle,
}

impl Flush<Claim, Claimed> for Batch {
    async fn flush(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>, StoreError> {
        let spooled_since = match spool::waiting(&self.broker).await {
            Waiting::Nothing => None,
            Waiting::Since(_, oldest) => oldest.checked_sub_signed(CLOCKS_APART).or(Some(DateTime::<Utc>::MIN_UTC)),
            Waiting::Unknown => Some(DateTime::<Utc>::MIN_UTC),
        };
        let flushed = claim(&mut self.session, claims, spooled_since, &self.policy).await;
        self.sent(flushed)
    }
}

impl Flush<Arc<Record>, Result<Call, Refused>> for Batch {
    async fn flush(&mut self, records: &[Arc<Record>]) -> Result<Vec<Result<Call, Refused>>, StoreError> {
        let flushed = record(&mut self.session, records, &self.policy).await;
        self.sent(flushed)
    }
}

impl Batch {
    /// Hands what is committed to the relay; gives up the connection on which something failed.
    fn sent<T>(&mut self, flushed: Result<(T, Vec<Outgoing>), StoreError>) -> Result<T, StoreError> {
        match flushed {
            Ok((answers, outgoing)) => {
                self.relay.send(outgoing);
                Ok(answers)
            }
            Err(error) => {
                // Its transaction may still be open, and hold its locks.
                self.session.reset();
                Err(error)
            }
        }
    }
}

/// Room for the packets of jobs: one that finds none waits for others to end.
#[derive(Debug)]
pub(super) struct Memory {
    room: Arc<Semaphore>,
    max_kib: u32,
}

/// Room taken by one job.
pub(super) type Room = tokio::sync::OwnedSemaphorePermit;

impl Memory {
    fn new(max_bytes: u64) -> Self {
        let max_kib = kib(max_bytes);
        Self { room: Arc::new(Semaphore::new(usize::try_from(max_kib).unwrap_or(usize::MAX))), max_kib }
    }

    /// Takes room for so many bytes; for all there is, when it is more than that.
    pub(super) async fn take(&self, bytes: u64) -> Option<Room> {
        Arc::clone(&self.room).acquire_many_owned(kib(bytes).min(self.max_kib)).await.ok()
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1)
}

/// Whether the database took what jobs had to say when it was last asked.
#[derive(Debug, Default)]
pub(super) struct Away {
    is_set: AtomicBool,
    failing_since: Mutex<Option<Instant>>,
}

impl Away {
    /// It did not.
    pub(super) fn failed(&self, now: Instant) {
        self.is_set.store(true, Ordering::Relaxed);
        self.since().get_or_insert(now);
    }

    /// It did.
    pub(super) fn answered(&self) {
        self.is_set.store(false, Ordering::Relaxed);
        *self.since() = None;
    }

    /// It can be read, at least: another try is worth it.
    pub(super) fn try_again(&self) {
        self.is_set.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// For how long it has taken nothing; none when it took the last.
    pub(super) fn failing_for(&self, now: Instant) -> Option<Duration> {
        self.since().map(|since| now.saturating_duration_since(since))
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failing_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
