//! Looking again and again, until the process ends.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::compare::compare;
use super::tick::tick;
use crate::broker::{Broker, Identities, topology};
use crate::domain::Policy;
use crate::relay;
use crate::service::life::LifeOptions;
use crate::service::tasks::Tasks;
use crate::store::{Store, agenda};

/// Time between two looks at whether the streams are still the ones they were.
const STREAMS_INTERVAL: Duration = Duration::from_secs(5);

/// What a reconciler works with.
#[derive(Clone, Debug)]
pub struct Reconciler {
    /// The database.
    pub store: Store,
    /// The streams.
    pub broker: Broker,
    /// Where committed messages go.
    pub relay: relay::Handle,
    /// What calls live by.
    pub policy: Policy,
}

/// How often it looks.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// At the calls that are due.
    pub reconcile: Duration,
    /// At everything that may have been missed.
    pub sweep: Duration,
    /// At whether the streams are still the ones they were.
    pub streams: Duration,
}

impl From<&LifeOptions> for Intervals {
    fn from(life: &LifeOptions) -> Self {
        Self { reconcile: life.reconcile_interval, sweep: life.sweep_interval, streams: STREAMS_INTERVAL }
    }
}

/// Reconciles until `shutdown`.
///
/// # Errors
/// When a part of it died.
pub async fn run(reconciler: Reconciler, intervals: Intervals, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut tasks = Tasks::new(shutdown.child_token());
    let stop = tasks.shutdown().clone();
    tasks.spawn("agenda", run_agenda(reconciler.clone(), intervals.reconcile, stop.clone()));
    tasks.spawn("stream watch", watch_streams(reconciler.clone(), intervals.streams, stop.clone()));
    tasks.spawn("sweep", run_sweeps(reconciler, intervals.sweep, stop));
    tasks.join().await
}

async fn run_agenda(reconciler: Reconciler, interval: Duration, stop: CancellationToken) -> anyhow::Result<()> {
    let Reconciler { store, broker, relay, policy } = reconciler;
    while !stop.is_cancelled() {
        match tick(&store, &broker, &relay, &policy).await {
            Ok(report) if report.is_full() => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "calls that are due could not be looked at"),
        }
        pause(interval, &stop).await;
    }
    Ok(())
}

async fn run_sweeps(reconciler: Reconciler, interval: Duration, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        match agenda::sweep(&reconciler.store).await {
            Ok(0) => tracing::debug!("swept, nothing found"),
            Ok(swept) => tracing::info!(swept, "calls that waited unseen are looked at"),
            Err(error) => tracing::warn!(%error, "the sweep failed"),
        }
        compare_all(&reconciler).await;
        pause(interval, &stop).await;
    }
    Ok(())
}

/// Makes streams that are missing, and sends again what a new one lacks.
async fn watch_streams(reconciler: Reconciler, interval: Duration, stop: CancellationToken) -> anyhow::Result<()> {
    let mut known: Option<Identities> = None;
    while !stop.is_cancelled() {
        match reconciler.broker.identities().await {
            Ok(found) => {
                let is_done = match &known {
                    Some(before) => refill(&reconciler, before, &found).await,
                    // This process may have slept through the loss.
                    None => found.work_messages > 0 || bring_forward(&reconciler).await,
                };
                if is_done {
                    known = Some(found);
                }
            }
            Err(error) if error.is_missing() => {
                if let Err(error) = topology::ensure(&reconciler.broker).await {
                    tracing::warn!(%error, "a stream is missing and cannot be created");
                }
            }
            Err(error) => tracing::debug!(%error, "the streams could not be looked at"),
        }
        pause(interval, &stop).await;
    }
    Ok(())
}

async fn refill(reconciler: &Reconciler, before: &Identities, found: &Identities) -> bool {
    let jobs = before.work == found.work || bring_forward(reconciler).await;
    let letters = before.dead_letters == found.dead_letters || compare_all(reconciler).await;
    jobs && letters
}

async fn bring_forward(reconciler: &Reconciler) -> bool {
    match agenda::bring_forward(&reconciler.store).await {
        Ok(0) => true,
        Ok(calls) => {
            tracing::warn!(calls, "the work stream is new and empty: jobs are issued again");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "jobs of a lost stream could not be brought forward");
            false
        }
    }
}

async fn compare_all(reconciler: &Reconciler) -> bool {
    let Reconciler { store, broker, relay, .. } = reconciler;
    match compare(store, broker, relay).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "dead letters and their stream could not be compared");
            false
        }
    }
}

/// Not in step with other processes that began at the same time.
async fn pause(interval: Duration, stop: &CancellationToken) {
    let pause = interval.mul_f64(0.9 + 0.2 * fastrand::f64());
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
