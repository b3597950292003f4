//! `outbox`: messages that were committed and wait for the broker's acknowledgement.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Link, Store, StoreError};
use crate::wire::outgoing::Outgoing;

/// Time in which the writer's own relay has a message to itself.
pub const OWN_RELAY_FIRST: Duration = Duration::from_secs(5);

/// Appends messages in the transaction that makes them true.
///
/// # Errors
/// When the database is away.
pub async fn append(connection: &mut Link, messages: &[Outgoing], now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        r#"/* outbox.append */
        INSERT INTO outbox (msg_id, subject, payload, replaces, available_at, created_at)
        SELECT msg_id, subject, payload, replaces, $5, $6
          FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::bool[]) AS m (msg_id, subject, payload, replaces)
        ON CONFLICT DO NOTHING"#,
        &messages.iter().map(|m| m.msg_id.clone()).collect::<Vec<_>>(),
        &messages.iter().map(|m| m.subject.clone()).collect::<Vec<_>>(),
        &messages.iter().map(|m| m.payload.to_vec()).collect::<Vec<_>>(),
        &messages.iter().map(|m| m.replaces).collect::<Vec<_>>(),
        now + OWN_RELAY_FIRST,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes messages that the broker has acknowledged. Does not wait for the disk: a deletion that a
/// crash undoes only has them published once more, and the disk's time is for what must not be lost.
///
/// # Errors
/// When the database is away; the messages will be published once more.
pub async fn delete(store: &Store, msg_ids: &[String]) -> Result<(), StoreError> {
    sqlx::query!(
        r#"/* outbox.delete */
        DELETE FROM outbox
         USING (SELECT set_config('synchronous_commit', 'off', true)) AS for_this_statement
         WHERE msg_id = ANY($1)"#,
        msg_ids
    )
    .execute(store.pool())
    .await?;
    Ok(())
}

/// Takes up to `limit` messages that were left behind, for `hold`; nobody else gets them meanwhile.
/// They come in the order in which they were written, so that a call's changes are announced in theirs.
///
/// # Errors
/// When the database is away.
pub async fn lease(store: &Store, limit: i64, hold: Duration) -> Result<Vec<Outgoing>, StoreError> {
    let now = store.now();
    let rows = sqlx::query!(
        r#"/* outbox.lease */
        WITH leased AS (
            UPDATE outbox o SET available_at = $2
              FROM (SELECT msg_id FROM outbox WHERE available_at <= $1
                     ORDER BY available_at, created_at, length(msg_id), msg_id
                     LIMIT $3 FOR UPDATE SKIP LOCKED) left_behind
             WHERE o.msg_id = left_behind.msg_id
            RETURNING o.msg_id, o.subject, o.payload, o.replaces, o.created_at
        )
        -- Names end in the call's version: of two written together, the shorter or lesser is the older.
        SELECT msg_id, subject, payload, replaces FROM leased ORDER BY created_at, length(msg_id), msg_id"#,
        now,
        now + hold,
        limit
    )
    .fetch_all(store.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Outgoing {
            msg_id: row.msg_id,
            subject: row.subject,
            payload: Bytes::from(row.payload),
            replaces: row.replaces,
        })
        .collect())
}

/// Gives up the hold on messages that could not be published: from `at` on any relay may take them.
///
/// # Errors
/// When the database is away; they are kept until their time is over.
pub async fn put_back(store: &Store, msg_ids: &[String], at: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        r#"/* outbox.put_back */ UPDATE outbox SET available_at = $2 WHERE msg_id = ANY($1) AND available_at > $2"#,
        msg_ids,
        at
    )
    .execute(store.pool())
    .await?;
    Ok(())
}

/// What waits: how many messages, and since when the oldest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages.
    pub waiting: i64,
    /// When the oldest was written.
    pub oldest: Option<DateTime<Utc>>,
}

/// How much waits.
///
/// # Errors
/// When the database is away.
pub async fn depth(store: &Store) -> Result<Depth, StoreError> {
    let row =
        sqlx::query!(r#"/* outbox.depth */ SELECT count(*) AS "waiting!", min(created_at) AS oldest FROM outbox"#)
            .fetch_one(store.pool())
            .await?;
    Ok(Depth { waiting: row.waiting, oldest: row.oldest })
}
