//! Publishing: at once what this process committed, later what any process left behind.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Receiver;
use crate::broker::{self, Broker};
use crate::service::health::Health;
use crate::store::{Store, StoreError, outbox};
use crate::wire::outgoing::Outgoing;

/// Messages that are published and deleted together.
const CHUNK_MESSAGES: usize = 512;
/// Chunks under way at a time: the next is published while the former's rows are deleted.
const CHUNKS_UNDER_WAY: usize = 4;
/// Time between two looks for messages that were left behind.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Messages taken by one look.
const SWEEP_MESSAGES: i64 = 1000;
/// Time for which a look keeps its messages from others; longer than publishing them may take.
const SWEEP_HOLD: Duration = Duration::from_secs(15);
/// Pause between two tries to connect at the start.
const CONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Relays what comes over `messages`, and what was left behind, until the last sender is gone.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run(
    store: Store,
    broker: Broker,
    mut messages: Receiver,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut under_way: JoinSet<()> = JoinSet::new();
    let mut look = tokio::time::interval(SWEEP_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(_) = under_way.join_next(), if under_way.len() >= CHUNKS_UNDER_WAY => {}
            first = messages.recv(), if under_way.len() < CHUNKS_UNDER_WAY => {
                let Some(mut chunk) = first else { break };
                while chunk.len() < CHUNK_MESSAGES && let Ok(more) = messages.try_recv() {
                    chunk.extend(more);
                }
                let (store, broker) = (store.clone(), broker.clone());
                under_way.spawn(async move { relay(&store, &broker, &chunk).await; });
            }
            _ = look.tick(), if !shutdown.is_cancelled() && under_way.len() < CHUNKS_UNDER_WAY => {
                let (store, broker) = (store.clone(), broker.clone());
                under_way.spawn(async move {
                    if let Err(error) = sweep(&store, &broker).await {
                        tracing::debug!(%error, "the outbox could not be looked at");
                    }
                });
            }
        }
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

/// As [`run`], for roles that work while the broker is away: connects first, for as long as it takes.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run_connecting(
    store: Store,
    broker: broker::Options,
    mut messages: Receiver,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Not the role's own health: it is ready as long as it can store.
    let health = Health::new();
    loop {
        let connected = tokio::select! {
            connected = connect(&broker, &health) => connected,
            () = shutdown.cancelled() => {
                // What was handed over stays in the outbox, where the next relay finds it.
                while messages.recv().await.is_some() {}
                return Ok(());
            }
        };
        match connected {
            Ok(broker) => return run(store, broker, messages, shutdown).await,
            Err(error) => tracing::warn!(%error, "no broker yet: packets are taken, announcements wait in the outbox"),
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

async fn connect(options: &broker::Options, health: &Health) -> anyhow::Result<Broker> {
    let broker = Broker::connect(options, "relay", health).await?;
    broker::topology::ensure(&broker).await?;
    Ok(broker)
}

/// Publishes everything that was left behind in the outbox and returns how many messages that were.
///
/// # Errors
/// When the database is away.
pub async fn sweep(store: &Store, broker: &Broker) -> Result<usize, StoreError> {
    let mut swept = 0;
    // While the broker is away a look would only push the messages further into the future.
    while broker.is_connected() {
        let left_behind = outbox::lease(store, SWEEP_MESSAGES, SWEEP_HOLD).await?;
        let relayed = relay(store, broker, &left_behind).await;
        swept += relayed;
        if relayed < usize::try_from(SWEEP_MESSAGES).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(swept)
}

/// Publishes messages, deletes those that are safe, and returns how many are.
async fn relay(store: &Store, broker: &Broker, messages: &[Outgoing]) -> usize {
    if messages.is_empty() {
        return 0;
    }
    let began = Instant::now();
    let outcomes = broker.publish(messages).await;
    let mut safe = Vec::with_capacity(messages.len());
    for (message, outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Ok(_) => safe.push(message.msg_id.clone()),
            Err(error) => tracing::debug!(%error, msg_id = message.msg_id, "left to the sweep"),
        }
    }
    metrics::histogram!("callfleet_relay_publish_seconds").record(began.elapsed());
    if safe.len() < messages.len() {
        tracing::warn!(left = messages.len() - safe.len(), "messages wait in the outbox: the broker did not take them");
    }
    if let Err(error) = outbox::delete(store, &safe).await {
        tracing::warn!(%error, messages = safe.len(), "published messages stay in the outbox and go out again");
    }
    safe.len()
}
