//! The worker put together: batches, leases, lanes, and an end in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::context::{Context, Parts};
use super::lane::{self, Lanes};
use super::moves::{self, Moves};
use super::options::Options;
use super::slots::Slots;
use crate::broker::Broker;
use crate::domain::{Lane, Policy};
use crate::relay;
use crate::service::health::Health;
use crate::service::tasks::Tasks;
use crate::store::Store;

/// Time that running jobs get at the end before they are handed back.
const FINISH: Duration = Duration::from_secs(8);
/// Time beyond the longest request after which jobs that do not move are stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What a worker works with.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The database.
    pub store: Store,
    /// Where jobs come from.
    pub broker: Broker,
    /// Where committed messages go.
    pub relay: relay::Handle,
    /// What calls live by.
    pub policy: Policy,
    /// Who is told whether jobs move.
    pub health: Health,
}

/// Takes jobs to the AI service until `shutdown`; then pulls no more, finishes what is in hand or
/// gives it back, and ends.
///
/// # Errors
/// When the options make no sense, or a part of the worker died.
pub async fn run(options: Options, worker: Worker, shutdown: CancellationToken) -> anyhow::Result<()> {
    options.check()?;
    let Worker { store, broker, relay, policy, health } = worker;
    // Leases, health and batches go on until the last job has ended.
    let last_job_ended = CancellationToken::new();
    let stop = shutdown.child_token();
    let mut tasks = Tasks::new(stop.clone());
    let name = options.name()?;
    tracing::info!(worker = name, concurrency = options.worker_concurrency, "worker begins");
    let progress_interval = policy.lease.min(broker.ack_wait()) / 3;
    let lease = policy.lease;
    let parts = Parts {
        store: store.clone(),
        broker: broker.clone(),
        relay,
        client: Client::new(&options)?,
        policy,
        worker: name,
        rng: Rng::new(),
    };
    let context = Arc::new(Context::new(parts, &mut tasks));
    let leases = context.leases().clone();
    tasks.spawn("leases", ending(leases.keep(store, lease, last_job_ended.clone())));
    let moves = Moves::new(Instant::now());
    let patience = options.ai_timeout + STUCK_AFTER;
    tasks.spawn(
        "job watch",
        ending(moves::watch(moves.clone(), Arc::clone(&context), patience, health, last_job_ended.clone())),
    );
    let hand_back = CancellationToken::new();
    let slots = Slots::new(options.worker_concurrency);
    let lanes = Lanes { context, slots, moves, progress_interval, stop, hand_back };
    tasks.spawn("lanes", ending(run_lanes(lanes, broker, last_job_ended)));
    tasks.join().await
}

async fn ending(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

async fn run_lanes(lanes: Lanes, broker: Broker, last_job_ended: CancellationToken) {
    // Also when a lane panics.
    let _ended = last_job_ended.drop_guard();
    let (stop, hand_back) = (lanes.stop.clone(), lanes.hand_back.clone());
    let both = join_all(Lane::ALL.map(|lane| lane::run(lanes.clone(), broker.consumer(lane))));
    drop(lanes);
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(FINISH).await;
        tracing::info!("jobs that still run are handed back");
        hand_back.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = both => {}
        () = patience => {}
    }
    // The last verdicts are on their way: without them their jobs come again only after a while.
    broker.flush().await;
}
