//! A change of calls: their rows, their timeline and their announcements, in one transaction.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::rows::column_count;
use super::{Link, Store, StoreError, calls, dead_letters, outbox};
use crate::domain::{Call, CallKey, Change};
use crate::wire::call::CallSummary;
use crate::wire::feed::StateChanged;
use crate::wire::job::Job;
use crate::wire::outgoing::Outgoing;
use crate::wire::subject;

/// How often a change is decided anew when others change the call at the same time.
const TRIES: usize = 3;

/// What came of deciding about some calls.
#[derive(Debug, Default)]
pub struct Changed {
    /// The changes that were stored.
    pub stored: Vec<Change>,
    /// The messages to hand to the relay now that they are committed.
    pub outgoing: Vec<Outgoing>,
    /// Calls that others kept changing: nothing was stored for them.
    pub conflicts: Vec<CallKey>,
}

/// Loads the calls of `keys`, lets `decide` say what becomes of each (nothing, when it returns
/// none), and stores that where the call's version still stands; the others are decided anew, up to
/// three times.
///
/// # Errors
/// When the database is away, or refuses.
pub async fn change(
    store: &Store,
    keys: &[CallKey],
    mut decide: impl FnMut(&Call, DateTime<Utc>) -> Option<Change>,
) -> Result<Changed, StoreError> {
    let mut all = Changed::default();
    let mut open: Vec<CallKey> = keys.to_vec();
    for _ in 0..TRIES {
        if open.is_empty() {
            break;
        }
        let mut tx = store.begin().await?;
        let now = store.now();
        let loaded = calls::load(&mut tx, &open).await?;
        let changes: Vec<Change> = loaded.iter().filter_map(|call| decide(call, now)).collect();
        let (stored, outgoing) = save(&mut tx, &changes, now).await?;
        tx.commit().await?;
        open = changes.iter().map(|c| c.call.key).filter(|key| !stored.contains(key)).collect();
        all.stored.extend(changes.into_iter().filter(|c| stored.contains(&c.call.key)));
        all.outgoing.extend(outgoing);
    }
    all.conflicts = open;
    Ok(all)
}

/// Stores changes where the call's version still stands, and announces them. Returns the keys of
/// those stored; the rest met a conflict.
///
/// # Errors
/// When the database is away, or refuses (a transition that is illegal, a constraint).
pub async fn save(
    connection: &mut Link,
    changes: &[Change],
    now: DateTime<Utc>,
) -> Result<(HashSet<CallKey>, Vec<Outgoing>), StoreError> {
    if changes.is_empty() {
        return Ok((HashSet::new(), Vec::new()));
    }
    let stored = update(connection, changes).await?;
    let news: Vec<&Change> = changes.iter().filter(|change| stored.contains(&change.call.key)).collect();
    let outgoing = announce(connection, &news, now).await?;
    Ok((stored, outgoing))
}

/// As [`save`], for calls that this transaction has locked: none can meet a conflict.
///
/// # Errors
/// As there, and when one met a conflict all the same.
pub(super) async fn save_locked(
    connection: &mut Link,
    changes: &[Change],
    now: DateTime<Utc>,
) -> Result<Vec<Outgoing>, StoreError> {
    let (stored, outgoing) = save(connection, changes, now).await?;
    match changes.iter().find(|change| !stored.contains(&change.call.key)) {
        Some(conflict) => Err(StoreError::Conflict(conflict.call.key)),
        None => Ok(outgoing),
    }
}

async fn update(connection: &mut Link, changes: &[Change]) -> Result<HashSet<CallKey>, StoreError> {
    let mut sorted: Vec<&Call> = changes.iter().map(|change| &change.call).collect();
    sorted.sort_unstable_by_key(|call| call.key);
    let calls = || sorted.iter();
    let stored = sqlx::query_scalar!(
        r#"/* calls.save */
        WITH new AS (
            SELECT * FROM UNNEST($1::uuid[], $2::int[], $3::text[], $4::text[], $5::int[], $6::int[], $7::int[],
                                 $8::uuid[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],
                                 $12::timestamptz[], $13::timestamptz[], $14::timestamptz[],
                                 $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::jsonb[])
                AS n (key, version, state, ai_status, generation, attempts_charged, attempts_uncharged,
                      lease_token, lease_until, next_attempt_at, reconcile_at,
                      updated_at, completed_at, archived_at,
                      queue, direction, from_party, to_party, agent, tags)),
        locked AS (
            SELECT c.key FROM calls c JOIN new n ON n.key = c.key AND c.version = n.version - 1
             ORDER BY c.key FOR UPDATE OF c)
        UPDATE calls c
           SET version = n.version, state = n.state, ai_status = n.ai_status, generation = n.generation,
               attempts_charged = n.attempts_charged, attempts_uncharged = n.attempts_uncharged,
               lease_token = n.lease_token, lease_until = n.lease_until,
               next_attempt_at = n.next_attempt_at,
               -- An end signal may have come since the call was read: only a step says when to look.
               reconcile_at = CASE WHEN c.state = n.state AND c.state = 'IN_PROGRESS'
                                   THEN c.reconcile_at ELSE n.reconcile_at END,
               updated_at = n.updated_at, completed_at = n.completed_at, archived_at = n.archived_at,
               queue = n.queue, direction = n.direction, from_party = n.from_party, to_party = n.to_party,
               agent = n.agent, tags = n.tags
          FROM new n JOIN locked USING (key)
         WHERE c.key = n.key AND c.version = n.version - 1
        RETURNING c.key"#,
        &calls().map(|c| c.key.as_uuid()).collect::<Vec<_>>(),
        &calls().map(|c| c.version).collect::<Vec<_>>(),
        &calls().map(|c| c.state.as_str().to_owned()).collect::<Vec<_>>(),
        &calls().map(|c| c.ai_status.as_str().to_owned()).collect::<Vec<_>>(),
        &calls().map(|c| c.generation).collect::<Vec<_>>(),
        &calls().map(|c| column_count(c.attempts.charged)).collect::<Vec<_>>(),
        &calls().map(|c| column_count(c.attempts.uncharged)).collect::<Vec<_>>(),
        &calls().map(|c| c.lease.map(|lease| lease.token)).collect::<Vec<_>>() as _,
        &calls().map(|c| c.lease.map(|lease| lease.until)).collect::<Vec<_>>() as _,
        &calls().map(|c| c.next_attempt_at).collect::<Vec<_>>() as _,
        &calls().map(|c| c.reconcile_at).collect::<Vec<_>>() as _,
        &calls().map(|c| c.updated_at).collect::<Vec<_>>(),
        &calls().map(|c| c.completed_at).collect::<Vec<_>>() as _,
        &calls().map(|c| c.archived_at).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.queue.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.direction.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.from.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.to.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.agent.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| Json(c.metadata.tags.clone())).collect::<Vec<_>>() as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(stored.into_iter().map(CallKey::from_uuid).collect())
}

/// Writes the timeline and the outbox for changes whose rows are written in the same transaction.
pub(super) async fn announce(
    connection: &mut Link,
    changes: &[&Change],
    now: DateTime<Utc>,
) -> Result<Vec<Outgoing>, StoreError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query!(
        r#"/* transitions.append */
        INSERT INTO transitions (call_key, version, from_state, to_state, ai_status, at, actor, reason)
        SELECT * FROM UNNEST($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
                             $7::text[], $8::text[])"#,
        &changes.iter().map(|c| c.call.key.as_uuid()).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.call.version).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.from.map(|from| from.as_str().to_owned())).collect::<Vec<_>>() as _,
        &changes.iter().map(|c| c.call.state.as_str().to_owned()).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.call.ai_status.as_str().to_owned()).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.call.updated_at).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.actor.clone()).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.reason.clone()).collect::<Vec<_>>(),
    )
    .execute(&mut *connection)
    .await?;
    let mut messages: Vec<Outgoing> = Vec::with_capacity(changes.len() * 2);
    for change in changes {
        messages.push(state_changed(change));
        messages.extend(job(change));
        if let Some(failure) = &change.dead_letter {
            messages.push(dead_letters::append(connection, &change.call, failure).await?);
        }
    }
    outbox::append(connection, &messages, now).await?;
    Ok(messages)
}

fn state_changed(change: &Change) -> Outgoing {
    let call = &change.call;
    let event = StateChanged {
        v: 1,
        from: change.from,
        to: call.state,
        at: call.updated_at,
        actor: change.actor.clone(),
        reason: change.reason.clone(),
        call: CallSummary::from(call),
    };
    Outgoing {
        msg_id: format!("state-{}-{}", call.key, call.version),
        subject: subject::state(&call.tenant, call.state, call.key),
        payload: Bytes::from(serde_json::to_vec(&event).unwrap_or_default()),
        replaces: false,
    }
}

fn job(change: &Change) -> Option<Outgoing> {
    change.issue.map(|issue| job_message(&change.call, issue))
}

/// The message of a call's job. Its name differs with every issue: the broker must not take a job
/// that is issued again for a copy of the lost one.
pub(super) fn job_message(call: &Call, issue: crate::domain::Issue) -> Outgoing {
    Outgoing {
        msg_id: format!("work-{}-{}-{}", call.key, call.generation, Uuid::new_v4().simple()),
        subject: subject::work(issue.lane, &call.tenant, call.key),
        payload: Bytes::from(serde_json::to_vec(&Job::of(call)).unwrap_or_default()),
        replaces: issue.replaces,
    }
}
