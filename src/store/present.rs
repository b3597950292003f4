//! The present, read page by page for those who watch it: calls that are not archived, and those
//! archived lately.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rows::{CallRow, Tags};
use super::{Store, StoreError, calls};
use crate::domain::{Call, CallKey, State};

/// Where a page ended: the next one holds what is older.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    at: DateTime<Utc>,
    key: Uuid,
}

impl Cursor {
    /// Before the first page, which holds the newest.
    #[must_use]
    pub fn newest() -> Self {
        // PostgreSQL's time reaches further than ours; both know the end of the year 9999.
        let at = DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Self { at, key: Uuid::max() }
    }

    /// Behind `call`, on pages of the calls in one state.
    #[must_use]
    pub const fn behind(call: &Call) -> Self {
        let at = match call.archived_at {
            Some(at) => at,
            None => call.created_at,
        };
        Self { at, key: call.key.as_uuid() }
    }
}

/// Up to `limit` calls in `state`, which is not `ARCHIVED`, the newest first.
///
/// # Errors
/// When the database is away.
pub async fn page(
    store: &Store,
    state: State,
    queues: Option<&[String]>,
    cursor: Cursor,
    limit: i64,
) -> Result<Vec<Call>, StoreError> {
    let rows = sqlx::query_as!(
        CallRow,
        r#"/* present.page */
        SELECT key, tenant, call_id, state, ai_status, version, generation,
               queue, direction, from_party, to_party, agent, tags AS "tags: Tags",
               attempts_charged, attempts_uncharged, ended_at, end_reason, final_sequence,
               lease_token, lease_until, next_attempt_at, reconcile_at, over_limit_at,
               created_at, updated_at, completed_at, archived_at
          FROM calls
         WHERE state = $1 AND ($2::text[] IS NULL OR queue = ANY($2)) AND (created_at, key) < ($3, $4)
         ORDER BY created_at DESC, key DESC LIMIT $5"#,
        state.as_str(),
        queues as _,
        cursor.at,
        cursor.key,
        limit
    )
    .fetch_all(store.pool())
    .await?;
    rows.into_iter().map(Call::try_from).collect()
}

/// As [`page`], of calls that were archived at `since` or later, the last archived first.
///
/// # Errors
/// When the database is away.
pub async fn archived_page(
    store: &Store,
    since: DateTime<Utc>,
    queues: Option<&[String]>,
    cursor: Cursor,
    limit: i64,
) -> Result<Vec<Call>, StoreError> {
    let rows = sqlx::query_as!(
        CallRow,
        r#"/* present.archived_page */
        SELECT key, tenant, call_id, state, ai_status, version, generation,
               queue, direction, from_party, to_party, agent, tags AS "tags: Tags",
               attempts_charged, attempts_uncharged, ended_at, end_reason, final_sequence,
               lease_token, lease_until, next_attempt_at, reconcile_at, over_limit_at,
               created_at, updated_at, completed_at, archived_at
          FROM calls
         WHERE archived_at >= $1 AND ($2::text[] IS NULL OR queue = ANY($2)) AND (archived_at, key) < ($3, $4)
         ORDER BY archived_at DESC, key DESC LIMIT $5"#,
        since,
        queues as _,
        cursor.at,
        cursor.key,
        limit
    )
    .fetch_all(store.pool())
    .await?;
    rows.into_iter().map(Call::try_from).collect()
}

/// How many calls the pages of `states` hold, counted up to `limit`.
///
/// # Errors
/// When the database is away.
pub async fn count(
    store: &Store,
    states: &[State],
    queues: Option<&[String]>,
    archived_since: DateTime<Utc>,
    limit: i64,
) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"/* present.count */
        SELECT count(*) AS "count!" FROM (
            SELECT FROM (
                SELECT queue FROM calls WHERE state = ANY($1) AND state <> 'ARCHIVED'
                UNION ALL
                SELECT queue FROM calls WHERE 'ARCHIVED' = ANY($1) AND archived_at >= $3) visible
             WHERE ($2::text[] IS NULL OR queue = ANY($2)) LIMIT $4) counted"#,
        &states.iter().map(|state| state.as_str().to_owned()).collect::<Vec<_>>(),
        queues as _,
        archived_since,
        limit
    )
    .fetch_one(store.pool())
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The calls of `keys` that are there.
///
/// # Errors
/// When the database is away.
pub async fn of(store: &Store, keys: &[CallKey]) -> Result<Vec<Call>, StoreError> {
    let mut connection = store.pool().acquire().await?;
    calls::load(&mut connection, keys).await
}
