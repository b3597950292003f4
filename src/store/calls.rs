//! `calls`: reading them, opening them, and marking their end.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::rows::{CallRow, Tags};
use super::{Link, Store, StoreError, change};
use crate::domain::{Call, CallKey, Change};
use crate::wire::outgoing::Outgoing;

/// One call, if it is there.
///
/// # Errors
/// When the database is away.
pub async fn find(store: &Store, key: CallKey) -> Result<Option<Call>, StoreError> {
    let mut connection = store.pool().acquire().await?;
    Ok(load(&mut connection, &[key]).await?.pop())
}

/// The calls of `keys` that are there, in no order.
///
/// # Errors
/// When the database is away.
pub async fn load(connection: &mut Link, keys: &[CallKey]) -> Result<Vec<Call>, StoreError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
    let rows = sqlx::query_as!(
        CallRow,
        r#"/* calls.load */
        SELECT key, tenant, call_id, state, ai_status, version, generation,
               queue, direction, from_party, to_party, agent, tags AS "tags: Tags",
               attempts_charged, attempts_uncharged, ended_at, end_reason, final_sequence,
               lease_token, lease_until, next_attempt_at, reconcile_at, over_limit_at,
               created_at, updated_at, completed_at, archived_at
          FROM calls WHERE key = ANY($1)"#,
        &keys
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Call::try_from).collect()
}

/// As [`load`], and nobody else changes them until the transaction ends. Locked in the order of
/// their keys, as everywhere, so that two batches cannot wait for each other.
///
/// # Errors
/// When the database is away.
pub(super) async fn lock(connection: &mut Link, keys: &[CallKey]) -> Result<Vec<Call>, StoreError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
    let rows = sqlx::query_as!(
        CallRow,
        r#"/* calls.lock */
        SELECT key, tenant, call_id, state, ai_status, version, generation,
               queue, direction, from_party, to_party, agent, tags AS "tags: Tags",
               attempts_charged, attempts_uncharged, ended_at, end_reason, final_sequence,
               lease_token, lease_until, next_attempt_at, reconcile_at, over_limit_at,
               created_at, updated_at, completed_at, archived_at
          FROM calls WHERE key = ANY($1) ORDER BY key FOR UPDATE"#,
        &keys
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Call::try_from).collect()
}

/// Opens the calls that are not there yet, in the order of their keys, and announces them. Returns
/// the keys of those opened here and the announcements; the others were there before.
///
/// # Errors
/// When the database is away.
pub async fn open(
    connection: &mut Link,
    openings: &[Change],
    now: DateTime<Utc>,
) -> Result<(Vec<CallKey>, Vec<Outgoing>), StoreError> {
    let mut sorted: Vec<&Change> = openings.iter().collect();
    sorted.sort_unstable_by_key(|change| change.call.key);
    let calls = || sorted.iter().map(|change| &change.call);
    let opened = sqlx::query_scalar!(
        r#"/* calls.open */
        INSERT INTO calls (key, tenant, call_id, state, ai_status, version, generation, queue, direction,
                           from_party, to_party, agent, tags, reconcile_at, created_at, updated_at)
        SELECT key, tenant, call_id, 'IN_PROGRESS', 'NONE', 1, 1, queue, direction,
               from_party, to_party, agent, tags, reconcile_at, $11, $11
          FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                      $8::text[], $9::jsonb[], $10::timestamptz[])
            AS new (key, tenant, call_id, queue, direction, from_party, to_party, agent, tags, reconcile_at)
        ON CONFLICT DO NOTHING
        RETURNING key"#,
        &calls().map(|c| c.key.as_uuid()).collect::<Vec<_>>(),
        &calls().map(|c| c.tenant.as_str().to_owned()).collect::<Vec<_>>(),
        &calls().map(|c| c.call_id.as_str().to_owned()).collect::<Vec<_>>(),
        &calls().map(|c| c.metadata.queue.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.direction.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.from.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.to.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| c.metadata.agent.clone()).collect::<Vec<_>>() as _,
        &calls().map(|c| Json(c.metadata.tags.clone())).collect::<Vec<_>>() as _,
        &calls().map(|c| c.reconcile_at).collect::<Vec<_>>() as _,
        now,
    )
    .fetch_all(&mut *connection)
    .await?;
    let opened: Vec<CallKey> = opened.into_iter().map(CallKey::from_uuid).collect();
    let news: Vec<&Change> = sorted.into_iter().filter(|change| opened.contains(&change.call.key)).collect();
    let announced = change::announce(connection, &news, now).await?;
    Ok((opened, announced))
}

/// An end signal, to be marked on a call in progress.
#[derive(Clone, Debug)]
pub struct EndMark {
    /// Which call.
    pub key: CallKey,
    /// Why, in the sender's words.
    pub reason: String,
    /// The last sequence there is, when the sender says so.
    pub final_sequence: Option<i64>,
    /// When the call has settled.
    pub settled_at: DateTime<Utc>,
}

/// Marks the ends of calls in progress: the first signal sets the time, any may name the last
/// sequence (the highest counts). Signals for calls that are over change nothing.
///
/// # Errors
/// When the database is away.
pub async fn mark_ended(connection: &mut Link, ends: &[EndMark], now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut ends: Vec<&EndMark> = ends.iter().collect();
    ends.sort_unstable_by_key(|end| end.key);
    ends.dedup_by_key(|end| end.key);
    sqlx::query!(
        r#"/* calls.mark_ended */
        WITH ends AS (
            SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[])
                AS e (key, reason, final_sequence, settled_at)),
        locked AS (
            SELECT c.key FROM calls c WHERE c.key IN (SELECT key FROM ends) ORDER BY c.key FOR UPDATE)
        UPDATE calls c
           SET ended_at = COALESCE(c.ended_at, $5),
               end_reason = COALESCE(c.end_reason, e.reason),
               final_sequence = GREATEST(c.final_sequence, e.final_sequence),
               reconcile_at = CASE WHEN c.ended_at IS NULL THEN e.settled_at ELSE c.reconcile_at END
          FROM ends e JOIN locked USING (key)
         WHERE c.key = e.key AND c.state = 'IN_PROGRESS'"#,
        &ends.iter().map(|e| e.key.as_uuid()).collect::<Vec<_>>(),
        &ends.iter().map(|e| e.reason.clone()).collect::<Vec<_>>(),
        &ends.iter().map(|e| e.final_sequence).collect::<Vec<_>>() as _,
        &ends.iter().map(|e| e.settled_at).collect::<Vec<_>>(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How calls stand that are no longer simply in progress: ended and settling, or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which call.
    pub key: CallKey,
    /// Its state is past `IN_PROGRESS`.
    pub is_over: bool,
}

/// Those of `keys` that have an end signal or are over.
///
/// # Errors
/// When the database is away.
pub async fn standing(connection: &mut Link, keys: &[CallKey]) -> Result<Vec<Standing>, StoreError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"/* calls.standing */
        SELECT key, state <> 'IN_PROGRESS' AS "is_over!" FROM calls
         WHERE key = ANY($1) AND (state <> 'IN_PROGRESS' OR ended_at IS NOT NULL)"#,
        &keys
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| Standing { key: CallKey::from_uuid(row.key), is_over: row.is_over }).collect())
}

/// Flags calls whose caps were passed, once.
///
/// # Errors
/// When the database is away.
pub async fn mark_over_limit(store: &Store, keys: &[CallKey]) -> Result<(), StoreError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
    sqlx::query!(
        "/* calls.mark_over_limit */ UPDATE calls SET over_limit_at = $2 WHERE key = ANY($1) AND over_limit_at IS NULL",
        &keys,
        store.now()
    )
    .execute(store.pool())
    .await?;
    Ok(())
}

/// Renews the leases that still stand and returns the tokens of those.
///
/// # Errors
/// When the database is away.
pub async fn renew_leases(
    store: &Store,
    leases: &[(CallKey, Uuid)],
    until: DateTime<Utc>,
) -> Result<Vec<Uuid>, StoreError> {
    let (keys, tokens): (Vec<Uuid>, Vec<Uuid>) = leases.iter().map(|(key, token)| (key.as_uuid(), *token)).unzip();
    let renewed = sqlx::query_scalar!(
        r#"/* calls.renew_leases */
        UPDATE calls c SET lease_until = $3, reconcile_at = $3
          FROM (SELECT c.key, l.token FROM UNNEST($1::uuid[], $2::uuid[]) AS l (key, token)
                  JOIN calls c ON c.key = l.key AND c.lease_token = l.token
                 ORDER BY c.key FOR UPDATE OF c) held
         WHERE c.key = held.key AND c.lease_token = held.token
        RETURNING held.token AS "token!""#,
        &keys,
        &tokens,
        until
    )
    .fetch_all(store.pool())
    .await?;
    Ok(renewed)
}
