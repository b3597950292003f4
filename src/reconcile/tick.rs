//! One look at the calls that are due.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::look::{Due, Seen, due};
use super::storing::Storing;
use crate::broker::Broker;
use crate::domain::{Call, CallKey, Change, Issue, Lane, Policy, Ranges};
use crate::relay;
use crate::store::agenda::{self, Again};
use crate::store::{Store, StoreError, calls, change, packets};

/// Calls that one look takes.
const BATCH_MAX_CALLS: i64 = 500;
/// Time for which they are kept from other reconcilers; should this one die, they come up again.
const HOLD: Duration = Duration::from_secs(10);
/// Ranges of missing sequences that a warning names.
const MISSING_SHOWN: usize = 20;
/// Who does it, in timelines.
const ACTOR: &str = "reconciler";

/// What a look did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls looked at.
    pub looked_at: usize,
    /// Calls that are over.
    pub completed: usize,
    /// Jobs issued again.
    pub reissued: usize,
    /// Calls given up.
    pub given_up: usize,
    /// Calls to be looked at later.
    pub postponed: usize,
}

impl Report {
    /// Whether there may be more that is due.
    #[must_use]
    pub fn is_full(&self) -> bool {
        i64::try_from(self.looked_at).is_ok_and(|count| count >= BATCH_MAX_CALLS)
    }
}

/// Looks at calls that are due, as many as one look takes, and does what is due for them.
///
/// # Errors
/// When the database is away: what was not done is due again later.
pub async fn tick(
    store: &Store,
    broker: &Broker,
    relay: &relay::Handle,
    policy: &Policy,
) -> Result<Report, StoreError> {
    let keys = agenda::due(store, BATCH_MAX_CALLS, HOLD).await?;
    if keys.is_empty() {
        return Ok(Report::default());
    }
    // In this order: what was accepted before the look is read after it.
    let storing = Storing::look(store, broker).await?;
    let (calls, seen) = read(store, &keys).await?;
    let now = store.now();
    let mut over: Vec<CallKey> = Vec::new();
    let mut hopeless: Vec<CallKey> = Vec::new();
    let mut again: Vec<Again<'_>> = Vec::new();
    let mut later: Vec<(&Call, DateTime<Utc>)> = Vec::new();
    for call in &calls {
        match due(call, of(&seen, call.key), storing, now, policy) {
            Due::Complete(_) => over.push(call.key),
            Due::GiveUp => hopeless.push(call.key),
            Due::Reissue { replaces, look_at } => {
                again.push(Again { call, issue: Issue { lane: Lane::Live, replaces }, look_at });
            }
            Due::LookAgain(at) => later.push((call, at)),
            Due::Nothing => {}
        }
    }
    let mut report = Report { looked_at: keys.len(), ..Report::default() };
    if !later.is_empty() {
        report.postponed = agenda::postpone(store, &later).await?.len();
    }
    if !over.is_empty() {
        report.completed = complete(store, relay, policy, &over, (&seen, storing)).await?;
    }
    if !again.is_empty() {
        let outgoing = agenda::reissue(store, &again).await?;
        report.reissued = outgoing.len();
        relay.send(outgoing);
    }
    if !hopeless.is_empty() {
        report.given_up = give_up(store, relay, policy, &hopeless).await?;
    }
    count(&report);
    Ok(report)
}

/// The calls, and what is to be known of the packets of those in progress.
async fn read(store: &Store, keys: &[CallKey]) -> Result<(Vec<Call>, HashMap<CallKey, Seen>), StoreError> {
    let mut tx = store.begin().await?;
    let calls = calls::load(&mut tx, keys).await?;
    let in_progress = calls.iter().filter(|call| call.completed_at.is_none());
    let (ended, talking): (Vec<&Call>, Vec<&Call>) = in_progress.partition(|call| call.end.is_some());
    let mut seen: HashMap<CallKey, Seen> = HashMap::new();
    if !talking.is_empty() {
        let keys: Vec<CallKey> = talking.iter().map(|call| call.key).collect();
        for (key, at) in packets::last_received(&mut tx, &keys).await? {
            seen.entry(key).or_default().last_received = Some(at);
        }
    }
    tx.commit().await?;
    if !ended.is_empty() {
        let keys: Vec<CallKey> = ended.iter().map(|call| call.key).collect();
        for (key, there) in packets::sequences_of(store, &keys).await? {
            seen.entry(key).or_default().there = there;
        }
    }
    Ok((calls, seen))
}

fn of(seen: &HashMap<CallKey, Seen>, key: CallKey) -> &Seen {
    const NOTHING: &Seen = &Seen { last_received: None, there: Ranges::from_sorted(Vec::new()) };
    seen.get(&key).unwrap_or(NOTHING)
}

async fn complete(
    store: &Store,
    relay: &relay::Handle,
    policy: &Policy,
    over: &[CallKey],
    (seen, storing): (&HashMap<CallKey, Seen>, Storing),
) -> Result<usize, StoreError> {
    let decide = |call: &Call, now| match due(call, of(seen, call.key), storing, now, policy) {
        Due::Complete(reason) => call.complete(ACTOR, reason, now, policy).ok(),
        _ => None,
    };
    let changed = change::change(store, over, decide).await?;
    relay.send(changed.outgoing);
    let how = |change: &Change| if change.call.end.is_some() { "settled" } else { "idle" };
    for change in &changed.stored {
        metrics::counter!("callfleet_calls_completed_total", "how" => how(change)).increment(1);
    }
    if let Err(error) = report_gaps(store, &changed.stored).await {
        tracing::warn!(%error, "the gaps of completed calls could not be read");
    }
    Ok(changed.stored.len())
}

/// Says once for each call which sequences never came.
async fn report_gaps(store: &Store, completed: &[Change]) -> Result<(), StoreError> {
    let keys: Vec<CallKey> = completed.iter().map(|change| change.call.key).collect();
    let there: HashMap<CallKey, Ranges> = packets::sequences_of(store, &keys).await?.into_iter().collect();
    for Change { call, reason, .. } in completed {
        let last = call.end.as_ref().and_then(|end| end.final_sequence);
        let missing = there.get(&call.key).cloned().unwrap_or_default().missing(last);
        if !missing.is_empty() {
            metrics::counter!("callfleet_calls_completed_with_gaps_total").increment(1);
            let count = missing.count();
            let missing: Vec<(i64, i64)> = missing.iter().take(MISSING_SHOWN).collect();
            tracing::warn!(call = %call.key, call_id = ?call.call_id.as_str(), reason, count, ?missing, "call completed with gaps");
        }
    }
    Ok(())
}

async fn give_up(
    store: &Store,
    relay: &relay::Handle,
    policy: &Policy,
    hopeless: &[CallKey],
) -> Result<usize, StoreError> {
    let decide = |call: &Call, now| call.expire(ACTOR, now, policy).ok();
    let (given_up, outgoing) = agenda::give_up(store, hopeless, decide).await?;
    relay.send(outgoing);
    for Change { call, .. } in &given_up {
        let attempts = call.attempts.total();
        tracing::warn!(call = %call.key, attempts, "call given up: its workers went away with it");
    }
    Ok(given_up.len())
}

fn count(report: &Report) {
    let Report { looked_at: _, completed, reissued, given_up, postponed } = *report;
    for (what, count) in
        [("completed", completed), ("reissued", reissued), ("given_up", given_up), ("postponed", postponed)]
    {
        metrics::counter!("callfleet_reconciled_total", "what" => what).increment(count as u64);
    }
}
