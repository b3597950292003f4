//! What this process committed: published in its order, chunk by chunk, without waiting for the rows
//! of the last chunk to be deleted.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handle::Handed;
use super::{Receiver, forget, jittered};
use crate::broker::Broker;
use crate::store::outbox::OWN_RELAY_FIRST;
use crate::wire::outgoing::Outgoing;

/// Messages that are published together.
const CHUNK_MESSAGES: usize = 512;
/// Time that messages wait here for a connection that broke; soon after it the sweep may take them.
const CONNECTION_WAIT: Duration = Duration::from_secs(3);
/// Time in which nobody else publishes what was handed over here, less the time of its commit.
const OURS_FOR: Duration = OWN_RELAY_FIRST.saturating_sub(Duration::from_secs(1));
const _: () = assert!(CONNECTION_WAIT.as_millis() < OURS_FOR.as_millis(), "what has waited may still be sent");
/// Pause after a chunk of which nothing was taken.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);
/// Time after shutdown in which messages that are still handed over are published.
const FLUSH: Duration = Duration::from_secs(10);

/// Publishes what comes until the last handle is gone, or until [`FLUSH`] after `shutdown`.
pub(super) async fn at_once(
    broker: &Broker,
    mut messages: Receiver,
    published: forget::Sender,
    shutdown: &CancellationToken,
) {
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FLUSH).await;
    };
    tokio::pin!(deadline);
    let mut trouble = Trouble::default();
    loop {
        let taken = tokio::select! {
            biased;
            taken = messages.take(CHUNK_MESSAGES) => taken,
            () = &mut deadline => None,
        };
        let Some(taken) = taken else { break };
        if !broker.is_connected() && !shutdown.is_cancelled() {
            let _still_none = timeout(CONNECTION_WAIT, broker.connected()).await;
        }
        let since = taken.first().map_or_else(Instant::now, |first| first.since);
        let chunk = still_ours(taken);
        if chunk.is_empty() {
            continue;
        }
        let (safe, failure) = publish(broker, chunk).await;
        metrics::histogram!("callfleet_relay_seconds").record(since.elapsed());
        let none_taken = safe.is_empty();
        forget::send(&published, safe);
        trouble.note(failure.as_ref());
        if none_taken && !shutdown.is_cancelled() {
            tokio::time::sleep(jittered(REFUSED_PAUSE)).await;
        }
    }
}

/// Leaves to the sweep what others may have taken up meanwhile. That is not only because once is enough:
/// a process that was stopped for long and goes on would announce what has been dealt with since, such
/// as the dead letter of a call that was sent through again.
fn still_ours(taken: Vec<Handed>) -> Vec<Outgoing> {
    let count = taken.len();
    let ours: Vec<Outgoing> =
        taken.into_iter().filter(|handed| handed.since.elapsed() < OURS_FOR).map(|handed| handed.message).collect();
    let left = count - ours.len();
    if left > 0 {
        metrics::counter!("callfleet_relay_left_to_sweep_total", "why" => "late").increment(left as u64);
    }
    ours
}

/// Publishes messages, and returns the names of those that are safe, and how many are not and why
/// the first of them is not.
pub(super) async fn publish(broker: &Broker, messages: Vec<Outgoing>) -> (Vec<String>, Option<(usize, String)>) {
    let outcomes = broker.publish(&messages).await;
    let mut safe = Vec::with_capacity(messages.len());
    let mut failure = None;
    for (message, outcome) in messages.into_iter().zip(outcomes) {
        match outcome {
            Ok(_) => safe.push(message.msg_id),
            Err(error) => {
                tracing::debug!(%error, msg_id = message.msg_id, "left to the sweep");
                metrics::counter!("callfleet_relay_left_to_sweep_total", "why" => error.kind()).increment(1);
                failure.get_or_insert((0, error.to_string())).0 += 1;
            }
        }
    }
    (safe, failure)
}

/// Says once that the broker does not take messages, and once that it does again.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    left: usize,
}

impl Trouble {
    fn note(&mut self, failure: Option<&(usize, String)>) {
        match (failure, self.since) {
            (Some((left, reason)), before) => {
                if before.is_none() {
                    tracing::warn!(reason, left, "messages wait in the outbox");
                    *self = Self { since: Some(Instant::now()), left: 0 };
                }
                self.left += left;
            }
            (None, Some(since)) => {
                let seconds = since.elapsed().as_secs();
                tracing::info!(left = self.left, seconds, "messages are taken again; the sweep sends those left");
                *self = Self::default();
            }
            (None, None) => {}
        }
    }
}
