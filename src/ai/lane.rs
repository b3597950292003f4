//! The loop of one lane: pull no more jobs than there are free slots, run each, carry out its verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::feeding::Feeding;
use super::job::{self, Verdict};
use super::moves::Moves;
use super::slots::{Reserved, Slots};
use crate::broker::{ConsumeError, Consumer, Delivery, PullError};

/// Time that a pull waits for jobs, when slots stay free. So long it takes at most until a server that
/// has fallen silent is noticed, and until a worker that ends has given back what was on its way.
const PULL_EXPIRES: Duration = Duration::from_secs(1);
/// Pause after an error, about.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// Pause once the connection is there again, about.
const CONNECTED_PAUSE: Duration = Duration::from_millis(100);

/// What the lanes of a worker share.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    pub(super) context: Arc<Context>,
    pub(super) slots: Slots,
    pub(super) moves: Moves,
    /// Time between signs of life of a job's message.
    pub(super) progress_interval: Duration,
    /// Asks to pull no more.
    pub(super) stop: CancellationToken,
    /// Asks for running jobs back.
    pub(super) hand_back: CancellationToken,
}

/// Runs the jobs of one lane until it is asked to stop and the last one has ended.
pub(super) async fn run(lanes: Lanes, consumer: Consumer) {
    let mut jobs = JoinSet::new();
    let mut feeding = Feeding::new(lanes.moves.clone(), consumer.lane(), Instant::now());
    while !lanes.stop.is_cancelled() {
        if lanes.context.away.is_set() {
            wait_for_database(&lanes).await;
            continue;
        }
        let reserved = tokio::select! {
            reserved = lanes.slots.reserve(consumer.lane()) => reserved,
            () = lanes.stop.cancelled() => None,
        };
        let Some(reserved) = reserved else { break };
        match pull(&lanes, &consumer, reserved, &mut jobs).await {
            Ok(0) => feeding.brought_nothing(&consumer, Instant::now()).await,
            Ok(_) => feeding.brought_jobs(Instant::now()),
            Err(error) => {
                feeding.failed(&error.to_string(), Instant::now());
                pause_after(&lanes, &consumer, &error).await;
            }
        }
        while let Some(ended) = jobs.try_join_next() {
            note_panic(ended);
        }
    }
    while let Some(ended) = jobs.join_next().await {
        note_panic(ended);
    }
}

/// One pull: its jobs are begun as they come. Returns how many there were.
///
/// It goes on to its end, a moment later, when the worker is asked to stop: what the server has sent
/// and nobody takes would wait for the end of its `ack_wait`. So it is given back, for when this pull
/// is over, which would only get it again.
async fn pull(
    lanes: &Lanes,
    consumer: &Consumer,
    mut reserved: Reserved,
    jobs: &mut JoinSet<()>,
) -> Result<usize, ConsumeError> {
    let wanted = reserved.count();
    let over_at = Instant::now() + PULL_EXPIRES;
    let mut deliveries = consumer.pull(wanted, PULL_EXPIRES).await?;
    let mut begun = 0;
    while let Some(delivery) = deliveries.next().await? {
        match reserved.split_one().filter(|_| !lanes.stop.is_cancelled()) {
            Some(slot) => {
                begun += 1;
                jobs.spawn(one(lanes.clone(), delivery, slot));
            }
            None => give_back(&delivery, over_at.saturating_duration_since(Instant::now())).await,
        }
    }
    lanes.slots.pulled(consumer.lane(), begun == wanted);
    Ok(begun)
}

/// One job, from its delivery to its verdict carried out.
async fn one(lanes: Lanes, delivery: Delivery, slot: Reserved) {
    let running = lanes.moves.begin();
    let verdict = match &delivery.job {
        Err(unreadable) => {
            tracing::error!(sequence = delivery.sequence, %unreadable, "a message of the work stream is no job");
            if let Err(error) = delivery.terminate(&unreadable.to_string()).await {
                tracing::warn!(%error, "a message could not be terminated");
            }
            return;
        }
        Ok(job) => {
            let signs = signs_of_life(&delivery, lanes.progress_interval);
            tokio::select! {
                verdict = job::run(&lanes.context, job, &lanes.hand_back) => verdict,
                never = signs => match never {},
            }
        }
    };
    carry_out(&delivery, &verdict).await;
    drop((running, slot));
}

/// Tells the broker that the job is being worked on, for as long as it is.
async fn signs_of_life(delivery: &Delivery, interval: Duration) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(interval).await;
        if let Err(error) = delivery.progress().await {
            tracing::debug!(%error, "no sign of life could be sent");
        }
    }
}

async fn carry_out(delivery: &Delivery, verdict: &Verdict) {
    let said = match verdict {
        Verdict::Done | Verdict::Park(_) | Verdict::Dead => delivery.ack().await,
        Verdict::Drop(why) => {
            tracing::debug!(why, "job dropped");
            delivery.ack().await
        }
        Verdict::RetryAfter(delay) => delivery.retry_after(*delay).await,
        Verdict::Leave(why) => {
            tracing::debug!(why, "message left alone");
            Ok(())
        }
    };
    if let Err(error) = said {
        // It comes again when its time is over, and finds its work done.
        tracing::warn!(%error, ?verdict, "a verdict could not be told to the broker");
    }
}

async fn give_back(delivery: &Delivery, delay: Duration) {
    if let Err(error) = delivery.retry_after(delay).await {
        tracing::debug!(%error, "a job could not be given back");
    }
}

async fn pause_after(lanes: &Lanes, consumer: &Consumer, error: &ConsumeError) {
    tracing::warn!(lane = %consumer.lane(), %error, "no jobs could be pulled");
    metrics::counter!("callfleet_pull_errors_total", "lane" => consumer.lane().as_str()).increment(1);
    if matches!(error, ConsumeError::Pull(PullError::Disconnected)) {
        tokio::select! {
            () = consumer.connected() => {}
            () = pause(lanes, ERROR_PAUSE) => {}
        }
        pause(lanes, CONNECTED_PAUSE).await;
    } else {
        pause(lanes, ERROR_PAUSE).await;
    }
}

/// Without the database no job can be claimed: pulling would only push them into the future.
async fn wait_for_database(lanes: &Lanes) {
    if lanes.context.store.sync_clock().await.is_ok() {
        lanes.context.away.try_again();
    } else {
        pause(lanes, ERROR_PAUSE).await;
    }
}

async fn pause(lanes: &Lanes, about: Duration) {
    let pause = lanes.context.with_rng(|rng| about.mul_f64(0.5 + rng.f64()));
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = lanes.stop.cancelled() => {}
    }
}

/// A job that panics costs its attempt as one that kills its worker does: the lease runs out.
fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a job panicked");
        metrics::counter!("callfleet_job_panics_total").increment(1);
    }
}
