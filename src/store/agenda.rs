//! The reconciler's agenda: calls that are due to be looked at.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::change::job_message;
use super::{Link, Store, StoreError, attempts, calls, change, outbox};
use crate::domain::{Call, CallKey, Change, Issue};
use crate::wire::outgoing::Outgoing;

/// Up to `limit` calls that are due, kept for `hold` from every other reconciler.
///
/// # Errors
/// When the database is away.
pub async fn due(store: &Store, limit: i64, hold: Duration) -> Result<Vec<CallKey>, StoreError> {
    let now = store.now();
    let keys = sqlx::query_scalar!(
        r#"/* agenda.due */
        UPDATE calls c SET reconcile_at = $2
          FROM (SELECT key FROM calls WHERE reconcile_at <= $1
                 ORDER BY reconcile_at LIMIT $3 FOR UPDATE SKIP LOCKED) due
         WHERE c.key = due.key
        RETURNING c.key"#,
        now,
        now + hold,
        limit
    )
    .fetch_all(store.pool())
    .await?;
    Ok(keys.into_iter().map(CallKey::from_uuid).collect())
}

/// Looks at calls again at the given times, without a change of the calls themselves. Returns those
/// that are still as they were read: the others have an agenda of their own.
///
/// # Errors
/// When the database is away.
pub async fn postpone(store: &Store, calls: &[(&Call, DateTime<Utc>)]) -> Result<HashSet<CallKey>, StoreError> {
    let mut connection = store.pool().acquire().await?;
    postpone_in(&mut connection, calls).await
}

async fn postpone_in(connection: &mut Link, calls: &[(&Call, DateTime<Utc>)]) -> Result<HashSet<CallKey>, StoreError> {
    let keys = sqlx::query_scalar!(
        r#"/* agenda.postpone */
        WITH n AS (
            SELECT * FROM UNNEST($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
                AS n (key, version, ended_at, lease_until, at)),
        locked AS (SELECT c.key FROM calls c WHERE c.key IN (SELECT key FROM n) ORDER BY c.key FOR UPDATE)
        UPDATE calls c SET reconcile_at = n.at
          FROM n JOIN locked USING (key)
         WHERE c.key = n.key AND c.version = n.version
           -- Neither raises the version.
           AND c.ended_at IS NOT DISTINCT FROM n.ended_at AND c.lease_until IS NOT DISTINCT FROM n.lease_until
        RETURNING c.key"#,
        &calls.iter().map(|(c, _)| c.key.as_uuid()).collect::<Vec<_>>(),
        &calls.iter().map(|(c, _)| c.version).collect::<Vec<_>>(),
        &calls.iter().map(|(c, _)| c.end.as_ref().map(|end| end.at)).collect::<Vec<_>>() as _,
        &calls.iter().map(|(c, _)| c.lease.map(|lease| lease.until)).collect::<Vec<_>>() as _,
        &calls.iter().map(|(_, at)| *at).collect::<Vec<_>>()
    )
    .fetch_all(connection)
    .await?;
    Ok(keys.into_iter().map(CallKey::from_uuid).collect())
}

/// A job to be issued once more.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// Whose job.
    pub call: &'a Call,
    /// How.
    pub issue: Issue,
    /// When to look at the call next.
    pub look_at: DateTime<Utc>,
}

/// Issues the jobs of calls once more, of those that are still as they were read.
///
/// # Errors
/// When the database is away.
pub async fn reissue(store: &Store, again: &[Again<'_>]) -> Result<Vec<Outgoing>, StoreError> {
    let postponed: Vec<(&Call, DateTime<Utc>)> = again.iter().map(|again| (again.call, again.look_at)).collect();
    let mut tx = store.begin().await?;
    let unchanged = postpone_in(&mut tx, &postponed).await?;
    let again = again.iter().filter(|again| unchanged.contains(&again.call.key));
    let messages: Vec<Outgoing> = again.map(|again| job_message(again.call, again.issue)).collect();
    outbox::append(&mut tx, &messages, store.now()).await?;
    tx.commit().await?;
    Ok(messages)
}

/// Gives up the calls for which `decide` says so, and ends the attempts that their workers left open.
///
/// # Errors
/// When the database is away, or refuses.
pub async fn give_up(
    store: &Store,
    keys: &[CallKey],
    decide: impl Fn(&Call, DateTime<Utc>) -> Option<Change>,
) -> Result<(Vec<Change>, Vec<Outgoing>), StoreError> {
    let mut tx = store.begin().await?;
    let locked = calls::lock(&mut tx, keys).await?;
    let now = store.now();
    let changes: Vec<Change> = locked.iter().filter_map(|call| decide(call, now)).collect();
    let given_up: Vec<Uuid> = changes.iter().map(|change| change.call.key.as_uuid()).collect();
    // Before the dead letters, which list the attempts as they ended.
    attempts::close_crashed(&mut tx, &given_up, now).await?;
    let outgoing = change::save_locked(&mut tx, &changes, now).await?;
    tx.commit().await?;
    Ok((changes, outgoing))
}

/// Puts every call on the agenda that waits for something and is not on it, or whose retry or lease
/// is over while the agenda looks elsewhere: the safety net. Returns how many.
///
/// # Errors
/// When the database is away.
pub async fn sweep(store: &Store) -> Result<u64, StoreError> {
    let swept = sqlx::query!(
        r#"/* agenda.sweep */
        UPDATE calls SET reconcile_at = $1
         WHERE state IN ('IN_PROGRESS', 'COMPLETED', 'PROCESSING_AI', 'FAILED') AND ai_status <> 'DEAD_LETTERED'
           AND (reconcile_at IS NULL
                OR (reconcile_at > $1 AND (next_attempt_at <= $1 OR lease_until <= $1)))"#,
        store.now()
    )
    .execute(store.pool())
    .await?;
    Ok(swept.rows_affected())
}

/// Looks at all calls whose job is due now: their messages are lost. Returns how many.
///
/// # Errors
/// When the database is away.
pub async fn bring_forward(store: &Store) -> Result<u64, StoreError> {
    let brought = sqlx::query!(
        r#"/* agenda.bring_forward */
        UPDATE calls SET reconcile_at = GREATEST($1, next_attempt_at)
         WHERE state IN ('COMPLETED', 'FAILED') AND ai_status IN ('PENDING', 'RETRY_SCHEDULED')
           AND reconcile_at > GREATEST($1, next_attempt_at)"#,
        store.now()
    )
    .execute(store.pool())
    .await?;
    Ok(brought.rows_affected())
}
