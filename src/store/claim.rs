//! Claims: workers take jobs, many in one transaction, and each attempt is counted before it begins.
//!
//! A claim that had no answer may be made again under the same token: one that was carried out after
//! all is found by its lease, and not counted twice.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Session, StoreError, attempts, calls, change, packets};
use crate::domain::{Call, CallKey, Change, Holder, Policy, Refused};
use crate::wire::outgoing::Outgoing;

/// A worker's wish to take a job.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which call.
    pub key: CallKey,
    /// Which asking of it the job is.
    pub generation: i32,
    /// The token under which the worker will hold the call.
    pub token: Uuid,
    /// Its name.
    pub worker: Arc<str>,
}

/// What came of a claim.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// The worker holds the call.
    Held {
        /// The call, with the lease and the new attempt.
        call: Box<Call>,
        /// How many bytes of packets it has.
        packet_bytes: u64,
    },
    /// It does not, and the call is as it was.
    Refused(Refused),
    /// There is no such call.
    Missing,
}

/// Carries out claims in one transaction: one answer for each in their order, and the messages to
/// hand to the relay. Calls that ended since `spooled_since` are refused: of those, packets may wait
/// in the spool that are to be sent.
///
/// # Errors
/// When the database is away, or refuses: then no claim was carried out.
pub async fn claim(
    session: &mut Session,
    claims: &[Claim],
    spooled_since: Option<DateTime<Utc>>,
    policy: &Policy,
) -> Result<(Vec<Claimed>, Vec<Outgoing>), StoreError> {
    let keys: Vec<CallKey> = claims.iter().map(|claim| claim.key).collect();
    let store = session.store().clone();
    let mut tx = session.begin().await?;
    let locked = calls::lock(&mut tx, &keys).await?;
    let sizes = packets::sizes(&mut tx, &keys).await?;
    // The time after the wait for the locks: a lease is as long as it says.
    let now = store.now();

    let mut present: HashMap<CallKey, Call> = locked.into_iter().map(|call| (call.key, call)).collect();
    let bytes: HashMap<CallKey, u64> = sizes.into_iter().map(|(key, _, bytes)| (key, bytes)).collect();
    let mut changes: Vec<Change> = Vec::with_capacity(claims.len());
    let mut begun: Vec<&str> = Vec::with_capacity(claims.len());
    let mut answers = Vec::with_capacity(claims.len());
    for claim in claims {
        let holder = Holder { token: claim.token, worker: &claim.worker };
        let Some(call) = present.get_mut(&claim.key) else {
            answers.push(Claimed::Missing);
            continue;
        };
        let packet_bytes = bytes.get(&claim.key).copied().unwrap_or(0);
        if call.is_held_by(holder, now) {
            answers.push(Claimed::Held { call: Box::new(call.clone()), packet_bytes });
            continue;
        }
        if spooled_since.is_some_and(|since| call.completed_at.is_some_and(|at| at >= since)) {
            answers.push(Claimed::Refused(Refused::Spooled));
            continue;
        }
        match call.claim(claim.generation, holder, now, policy) {
            Err(refused) => answers.push(Claimed::Refused(refused)),
            Ok(change) => {
                // A second claim of the same call in this batch meets the first one's lease.
                call.clone_from(&change.call);
                answers.push(Claimed::Held { call: Box::new(change.call.clone()), packet_bytes });
                begun.push(&claim.worker);
                changes.push(change);
            }
        }
    }
    if changes.is_empty() {
        // Dropped alone, it would cost the session its connection.
        tx.rollback().await?;
        return Ok((answers, Vec::new()));
    }
    let outgoing = change::save_locked(&mut tx, &changes, now).await?;
    let begun: Vec<(&Call, &str)> = changes.iter().map(|change| &change.call).zip(begun).collect();
    attempts::begin(&mut tx, &begun, now).await?;
    tx.commit().await?;
    Ok((answers, outgoing))
}
