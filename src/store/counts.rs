//! How many calls are where, and what has waited longest.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Link, Store, StoreError};

/// Calls by what is to come of them. Every call is in exactly one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Buckets {
    /// All calls.
    pub total: i64,
    /// Packets are coming.
    pub in_progress: i64,
    /// A job waits for a worker.
    pub waiting: i64,
    /// A worker asks the AI service.
    pub running: i64,
    /// The last attempt failed and another is due.
    pub retrying: i64,
    /// The transcript is stored.
    pub archived: i64,
    /// Given up: an operator decides.
    pub dead: i64,
    /// An operator gave it up.
    pub discarded: i64,
}

impl Buckets {
    /// The calls of all buckets together: [`Buckets::total`], or something is wrong.
    #[must_use]
    pub const fn sum(&self) -> i64 {
        self.in_progress + self.waiting + self.running + self.retrying + self.archived + self.dead + self.discarded
    }
}

/// Counts all calls.
///
/// # Errors
/// When the database is away.
pub async fn buckets(store: &Store) -> Result<Buckets, StoreError> {
    let mut connection = store.pool().acquire().await?;
    buckets_of(&mut connection).await
}

pub(super) async fn buckets_of(connection: &mut Link) -> Result<Buckets, StoreError> {
    Ok(sqlx::query_as!(
        Buckets,
        r#"/* counts.buckets */
        SELECT count(*) AS "total!",
               count(*) FILTER (WHERE state = 'IN_PROGRESS') AS "in_progress!",
               count(*) FILTER (WHERE ai_status = 'PENDING') AS "waiting!",
               count(*) FILTER (WHERE ai_status = 'RUNNING') AS "running!",
               count(*) FILTER (WHERE ai_status = 'RETRY_SCHEDULED') AS "retrying!",
               count(*) FILTER (WHERE ai_status = 'SUCCEEDED') AS "archived!",
               count(*) FILTER (WHERE ai_status = 'DEAD_LETTERED') AS "dead!",
               count(*) FILTER (WHERE ai_status = 'DISCARDED') AS "discarded!"
          FROM calls"#
    )
    .fetch_one(connection)
    .await?)
}

/// What is still on its way to an end of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsettled {
    /// Calls in progress whose end signal came: they settle.
    pub settling: i64,
    /// Calls whose job waits for a worker.
    pub waiting: i64,
    /// Calls that a worker has in hand.
    pub running: i64,
    /// Calls whose retry is to come.
    pub retrying: i64,
    /// Messages that the broker has not acknowledged.
    pub outbox: i64,
}

impl Unsettled {
    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts what is still on its way. Calls in progress without an end signal are not: they may go on
/// for hours.
///
/// # Errors
/// When the database is away.
pub async fn unsettled(store: &Store) -> Result<Unsettled, StoreError> {
    // Each state by its own index range: archived calls, nearly all of them, are not read.
    Ok(sqlx::query_as!(
        Unsettled,
        r#"/* counts.unsettled */
        SELECT (SELECT count(*) FROM calls WHERE state = 'IN_PROGRESS' AND ended_at IS NOT NULL) AS "settling!",
               (SELECT count(*) FROM calls WHERE state = 'COMPLETED') AS "waiting!",
               (SELECT count(*) FROM calls WHERE state = 'PROCESSING_AI') AS "running!",
               (SELECT count(*) FROM calls WHERE state = 'FAILED' AND ai_status <> 'DEAD_LETTERED') AS "retrying!",
               (SELECT count(*) FROM outbox) AS "outbox!""#
    )
    .fetch_one(store.pool())
    .await?)
}

/// A call that stands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standout {
    /// The PBX's id.
    pub call_id: String,
    /// Since or until when.
    pub at: DateTime<Utc>,
}

/// What has waited longest, and what comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extremes {
    /// The call whose job has waited longest for a worker, since it was over.
    pub oldest_waiting: Option<Standout>,
    /// The call in progress that began first.
    pub oldest_in_progress: Option<Standout>,
    /// The retry that is due next.
    pub next_retry: Option<Standout>,
    /// Calls whose worker's lease ran out and that nobody took over yet.
    pub leases_over: i64,
    /// Calls that the reconciler should have looked at by now.
    pub agenda_overdue: i64,
}

/// Finds what stands out at `now`.
///
/// # Errors
/// When the database is away.
pub async fn extremes(store: &Store) -> Result<Extremes, StoreError> {
    // A second's slack: the reconciler looks once a second.
    let now = store.now() - chrono::TimeDelta::seconds(2);
    let standouts = sqlx::query!(
        r#"/* counts.standouts */
        (SELECT 'waiting' AS "what!", call_id, completed_at AS "at!" FROM calls
          WHERE state = 'COMPLETED' ORDER BY completed_at LIMIT 1)
        UNION ALL
        (SELECT 'in_progress', call_id, created_at FROM calls
          WHERE state = 'IN_PROGRESS' ORDER BY created_at LIMIT 1)
        UNION ALL
        (SELECT 'retry', call_id, next_attempt_at FROM calls
          WHERE state = 'FAILED' AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 1)"#
    )
    .fetch_all(store.pool())
    .await?;
    let late = sqlx::query!(
        r#"/* counts.late */
        SELECT (SELECT count(*) FROM calls WHERE state = 'PROCESSING_AI' AND lease_until < $1) AS "leases_over!",
               (SELECT count(*) FROM calls WHERE reconcile_at < $1) AS "agenda_overdue!""#,
        now
    )
    .fetch_one(store.pool())
    .await?;
    let mut extremes =
        Extremes { leases_over: late.leases_over, agenda_overdue: late.agenda_overdue, ..Extremes::default() };
    for row in standouts {
        let standout = row.call_id.map(|call_id| Standout { call_id, at: row.at });
        match row.what.as_str() {
            "waiting" => extremes.oldest_waiting = standout,
            "in_progress" => extremes.oldest_in_progress = standout,
            _ => extremes.next_retry = standout,
        }
    }
    Ok(extremes)
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PacketTotals {
    /// Packets, each sequence of a call once.
    pub stored: i64,
    /// Further copies of them that came.
    pub duplicates: i64,
    /// Copies with other content.
    pub conflicts: i64,
}

pub(super) async fn packets_of(connection: &mut Link) -> Result<PacketTotals, StoreError> {
    Ok(sqlx::query_as!(
        PacketTotals,
        r#"/* counts.packets */
        SELECT (SELECT count(*) FROM packets) AS "stored!",
               (SELECT COALESCE(sum(copies), 0) FROM packet_copies) AS "duplicates!",
               (SELECT count(*) FROM packet_conflicts) AS "conflicts!""#
    )
    .fetch_one(connection)
    .await?)
}
