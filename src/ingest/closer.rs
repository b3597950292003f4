//! Closes calls the moment they are whole: the end signal is there and so are all packets. What it
//! misses (a crash, a packet at another replica) the reconciler closes when the call has settled.

use std::collections::{BTreeSet, HashMap};

use tokio::sync::mpsc;

use super::writer::flag;
use crate::domain::{Call, CallKey, Policy, Ranges};
use crate::relay;
use crate::store::{Store, StoreError, change, packets};

/// Calls looked at in one transaction.
const BATCH_MAX_CALLS: usize = 256;
/// Batches of calls that may wait; what is beyond is left to the reconciler.
const QUEUE_MAX: usize = 1024;

/// The writers' end: hands over calls to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Closer {
    sender: mpsc::Sender<(Vec<CallKey>, Vec<CallKey>)>,
}

/// The way to the closer's task.
pub(super) type Receiver = mpsc::Receiver<(Vec<CallKey>, Vec<CallKey>)>;

impl Closer {
    /// A closer's two ends.
    pub(super) fn new() -> (Self, Receiver) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        (Self { sender }, receiver)
    }

    /// Has calls looked at that have ended, and flagged that passed their cap; never waits.
    pub(super) fn look_at(&self, ended: Vec<CallKey>, passed_cap: Vec<CallKey>) {
        if (!ended.is_empty() || !passed_cap.is_empty()) && self.sender.try_send((ended, passed_cap)).is_err() {
            metrics::counter!("callfleet_closer_drops_total").increment(1);
        }
    }
}

/// Closes calls until the last writer is gone.
pub(super) async fn run(store: Store, policy: Policy, relay: relay::Handle, mut queue: Receiver) -> anyhow::Result<()> {
    while let Some((ended, mut passed_cap)) = queue.recv().await {
        let mut keys: BTreeSet<CallKey> = ended.into_iter().collect();
        while keys.len() < BATCH_MAX_CALLS
            && let Ok((ended, passed)) = queue.try_recv()
        {
            keys.extend(ended);
            passed_cap.extend(passed);
        }
        if !passed_cap.is_empty() {
            flag(&store, &passed_cap).await;
        }
        let keys: Vec<CallKey> = keys.into_iter().collect();
        match close(&store, &policy, &keys).await {
            Ok(outgoing) => relay.send(outgoing),
            Err(error) => tracing::warn!(%error, calls = keys.len(), "ended calls are left to the reconciler"),
        }
    }
    Ok(())
}

async fn close(
    store: &Store,
    policy: &Policy,
    keys: &[CallKey],
) -> Result<Vec<crate::wire::outgoing::Outgoing>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let there: HashMap<CallKey, Ranges> = packets::sequences_of(store, keys).await?.into_iter().collect();
    let decide = |call: &Call, now| {
        let is_whole = there.get(&call.key).is_some_and(|there| call.is_whole(there));
        is_whole.then(|| call.complete("ingest", "ended and whole", now, policy).ok()).flatten()
    };
    let changed = change::change(store, keys, decide).await?;
    metrics::counter!("callfleet_calls_completed_total", "how" => "whole").increment(changed.stored.len() as u64);
    Ok(changed.outgoing)
}
