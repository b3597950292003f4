//! `ingests`: which ingests can store packets, and since when.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Store, StoreError};

/// Silence after which an ingest no longer counts as storing; its next sign begins anew.
const SILENT_AFTER: TimeDelta = TimeDelta::seconds(5);
/// Age at which the last sign of an ingest that is gone is removed.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::hours(1);

/// Says that the ingest `name` can store packets now.
///
/// # Errors
/// When the database is away.
pub async fn give_sign(store: &Store, name: &str) -> Result<(), StoreError> {
    store.sync_clock().await?;
    let now = store.now();
    sqlx::query!(
        r#"/* ingests.give_sign */
        INSERT INTO ingests AS i (name, storing_since, seen_at) VALUES ($1, $2, $2)
        ON CONFLICT (name) DO UPDATE
           SET storing_since = CASE WHEN i.seen_at < $3 THEN $2 ELSE LEAST(i.storing_since, $2) END, seen_at = $2"#,
        name,
        now,
        now - SILENT_AFTER
    )
    .execute(store.pool())
    .await?;
    Ok(())
}

/// Removes the ingest `name`, and those that went away without a word long ago.
///
/// # Errors
/// When the database is away.
pub async fn leave(store: &Store, name: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "/* ingests.leave */ DELETE FROM ingests WHERE name = $1 OR seen_at < $2",
        name,
        store.now() - FORGOTTEN_AFTER
    )
    .execute(store.pool())
    .await?;
    Ok(())
}

/// Since when packets can be stored by every ingest that can now; none when there is no such ingest.
///
/// # Errors
/// When the database is away.
pub async fn storing_since(store: &Store) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(sqlx::query_scalar!(
        "/* ingests.storing_since */ SELECT max(storing_since) FROM ingests WHERE seen_at >= $1",
        store.now() - SILENT_AFTER
    )
    .fetch_one(store.pool())
    .await?)
}
