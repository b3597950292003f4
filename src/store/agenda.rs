//! The reconciler's agenda: calls that are due to be looked at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::change::job_message;
use super::{Store, StoreError, outbox};
use crate::domain::{Call, CallKey, Issue};
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

/// Looks at a call again at the given time, without a change of the call itself.
///
/// # Errors
/// When the database is away.
pub async fn postpone(connection: &mut PgConnection, calls: &[(&Call, DateTime<Utc>)]) -> Result<(), StoreError> {
    let (keys, versions): (Vec<Uuid>, Vec<i32>) = calls.iter().map(|(c, _)| (c.key.as_uuid(), c.version)).unzip();
    let at: Vec<DateTime<Utc>> = calls.iter().map(|(_, at)| *at).collect();
    sqlx::query!(
        r#"/* agenda.postpone */
        UPDATE calls c SET reconcile_at = n.at
          FROM UNNEST($1::uuid[], $2::int[], $3::timestamptz[]) AS n (key, version, at)
         -- A call that changed, or whose end came meanwhile, has an agenda of its own.
         WHERE c.key = n.key AND c.version = n.version AND (c.ended_at IS NULL OR c.state <> 'IN_PROGRESS')"#,
        &keys,
        &versions,
        &at
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Issues the jobs of calls again, and looks at them once more at `again_at`.
///
/// # Errors
/// When the database is away.
pub async fn reissue(
    store: &Store,
    calls: &[(&Call, Issue)],
    again_at: DateTime<Utc>,
) -> Result<Vec<Outgoing>, StoreError> {
    let messages: Vec<Outgoing> = calls.iter().map(|(call, issue)| job_message(call, *issue)).collect();
    let postponed: Vec<(&Call, DateTime<Utc>)> = calls.iter().map(|(call, _)| (*call, again_at)).collect();
    let mut tx = store.begin().await?;
    postpone(&mut tx, &postponed).await?;
    outbox::append(&mut tx, &messages, store.now()).await?;
    tx.commit().await?;
    Ok(messages)
}

/// Puts every call on the agenda that waits for something and is not on it, or far behind: the
/// sweep's safety net. Returns how many.
///
/// # Errors
/// When the database is away.
pub async fn sweep(store: &Store, slack: Duration) -> Result<u64, StoreError> {
    let now = store.now();
    let swept = sqlx::query!(
        r#"/* agenda.sweep */
        UPDATE calls SET reconcile_at = $1
         WHERE (state IN ('IN_PROGRESS', 'COMPLETED', 'PROCESSING_AI') AND reconcile_at IS NULL)
            OR (state = 'FAILED' AND ai_status = 'RETRY_SCHEDULED'
                AND (reconcile_at IS NULL OR reconcile_at > next_attempt_at + $2)
                AND next_attempt_at <= $1)"#,
        now,
        sqlx::postgres::types::PgInterval::try_from(slack).unwrap_or_default() as _
    )
    .execute(store.pool())
    .await?;
    Ok(swept.rows_affected())
}
