//! `packets`: storing them in batches, and reading a call's.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Link, Store, StoreError};
use crate::domain::{CallKey, Packet, Ranges};

/// Copies of one packet with other content that are kept aside; further ones are only counted.
const CONFLICTS_KEPT: i64 = 16;

/// Stores packets, sorted by (key, sequence) and without two of the same, and returns those that
/// are new; the others were there before.
///
/// # Errors
/// When the database is away.
pub async fn store(connection: &mut Link, packets: &[&Packet]) -> Result<HashSet<(CallKey, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"/* packets.store */
        INSERT INTO packets (call_key, sequence, data, sent_at, received_at)
        SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::timestamptz[])
        ON CONFLICT DO NOTHING
        RETURNING call_key, sequence"#,
        &packets.iter().map(|p| p.key.as_uuid()).collect::<Vec<_>>(),
        &packets.iter().map(|p| p.sequence).collect::<Vec<_>>(),
        &packets.iter().map(|p| p.data.as_slice()).collect::<Vec<_>>() as _,
        &packets.iter().map(|p| p.sent_at).collect::<Vec<_>>() as _,
        &packets.iter().map(|p| p.received_at).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (CallKey::from_uuid(row.call_key), row.sequence)).collect())
}

/// Which of these very packets are stored: not a copy of one that came at another time.
///
/// # Errors
/// When the database is away.
pub async fn which_are_stored(
    connection: &mut Link,
    packets: &[&Packet],
) -> Result<HashSet<(CallKey, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"/* packets.which_are_stored */
        SELECT p.call_key, p.sequence
          FROM UNNEST($1::uuid[], $2::bigint[], $3::timestamptz[]) AS n (call_key, sequence, received_at)
          JOIN packets p USING (call_key, sequence)
         WHERE p.received_at = n.received_at"#,
        &packets.iter().map(|p| p.key.as_uuid()).collect::<Vec<_>>(),
        &packets.iter().map(|p| p.sequence).collect::<Vec<_>>(),
        &packets.iter().map(|p| p.received_at).collect::<Vec<_>>()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (CallKey::from_uuid(row.call_key), row.sequence)).collect())
}

/// Which of these packets are there, in this copy or another.
///
/// # Errors
/// When the database is away.
pub async fn which_exist(connection: &mut Link, packets: &[&Packet]) -> Result<HashSet<(CallKey, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"/* packets.which_exist */
        SELECT p.call_key, p.sequence FROM UNNEST($1::uuid[], $2::bigint[]) AS n (call_key, sequence)
          JOIN packets p USING (call_key, sequence)"#,
        &packets.iter().map(|p| p.key.as_uuid()).collect::<Vec<_>>(),
        &packets.iter().map(|p| p.sequence).collect::<Vec<_>>()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (CallKey::from_uuid(row.call_key), row.sequence)).collect())
}

/// Counts copies of packets that are stored, sorted by (key, sequence), and keeps those aside whose
/// content differs. Returns how many differed.
///
/// # Errors
/// When the database is away.
pub async fn note_copies(connection: &mut Link, copies: &[(&Packet, i32)]) -> Result<u64, StoreError> {
    let keys: Vec<Uuid> = copies.iter().map(|(p, _)| p.key.as_uuid()).collect();
    let sequences: Vec<i64> = copies.iter().map(|(p, _)| p.sequence).collect();
    sqlx::query!(
        r#"/* packets.count_copies */
        INSERT INTO packet_copies AS c (call_key, sequence, copies)
        SELECT call_key, sequence, sum(copies)
          FROM UNNEST($1::uuid[], $2::bigint[], $3::int[]) AS n (call_key, sequence, copies)
         GROUP BY call_key, sequence ORDER BY call_key, sequence
        ON CONFLICT (call_key, sequence) DO UPDATE SET copies = c.copies + EXCLUDED.copies"#,
        &keys,
        &sequences,
        &copies.iter().map(|(_, count)| *count).collect::<Vec<_>>()
    )
    .execute(&mut *connection)
    .await?;
    let kept = sqlx::query!(
        r#"/* packets.keep_conflicts */
        INSERT INTO packet_conflicts (call_key, sequence, digest, data, sent_at, received_at)
        SELECT n.call_key, n.sequence, n.digest, n.data, n.sent_at, n.received_at
          FROM UNNEST($1::uuid[], $2::bigint[], $3::bytea[], $4::bytea[], $5::timestamptz[], $6::timestamptz[])
            AS n (call_key, sequence, digest, data, sent_at, received_at)
          JOIN packets p USING (call_key, sequence)
         WHERE p.data <> n.data
           AND (SELECT count(*) FROM packet_conflicts c
                 WHERE c.call_key = n.call_key AND c.sequence = n.sequence) < $7
         ORDER BY n.call_key, n.sequence, n.digest
        ON CONFLICT DO NOTHING"#,
        &keys,
        &sequences,
        &copies.iter().map(|(p, _)| Sha256::digest(&p.data).to_vec()).collect::<Vec<_>>(),
        &copies.iter().map(|(p, _)| p.data.as_slice()).collect::<Vec<_>>() as _,
        &copies.iter().map(|(p, _)| p.sent_at).collect::<Vec<_>>() as _,
        &copies.iter().map(|(p, _)| p.received_at).collect::<Vec<_>>(),
        CONFLICTS_KEPT
    )
    .execute(connection)
    .await?;
    Ok(kept.rows_affected())
}

/// How much of each call is stored: packets and their bytes.
///
/// # Errors
/// When the database is away.
pub async fn sizes(connection: &mut Link, keys: &[CallKey]) -> Result<Vec<(CallKey, u64, u64)>, StoreError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"/* packets.sizes */
        SELECT call_key, count(*) AS "packets!", sum(octet_length(data))::bigint AS "bytes!"
          FROM packets WHERE call_key = ANY($1) GROUP BY call_key"#,
        &keys
    )
    .fetch_all(connection)
    .await?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(rows.into_iter().map(|row| (CallKey::from_uuid(row.call_key), count(row.packets), count(row.bytes))).collect())
}

/// Which sequences of each call, from `from` on, are stored.
///
/// # Errors
/// When the database is away.
pub async fn sequences_from(store: &Store, from: &[(CallKey, i64)]) -> Result<Vec<(CallKey, Ranges)>, StoreError> {
    let (keys, starts): (Vec<Uuid>, Vec<i64>) = from.iter().map(|(key, start)| (key.as_uuid(), *start)).unzip();
    // Runs of neighbours share sequence minus row number: the database folds them into ranges.
    let rows = sqlx::query!(
        r#"/* packets.sequences_from */
        SELECT call_key AS "call_key!", min(sequence) AS "first!", max(sequence) AS "last!"
          FROM (SELECT p.call_key, p.sequence,
                       p.sequence - row_number() OVER (PARTITION BY p.call_key ORDER BY p.sequence) AS run
                  FROM UNNEST($1::uuid[], $2::bigint[]) AS f (key, start)
                  JOIN packets p ON p.call_key = f.key AND p.sequence >= f.start) AS numbered
         GROUP BY call_key, run ORDER BY 1, 2"#,
        &keys,
        &starts
    )
    .fetch_all(store.pool())
    .await?;
    let mut all: Vec<(CallKey, Vec<(i64, i64)>)> = Vec::new();
    for row in rows {
        let key = CallKey::from_uuid(row.call_key);
        match all.last_mut().filter(|(last, _)| *last == key) {
            Some((_, ranges)) => ranges.push((row.first, row.last)),
            None => all.push((key, vec![(row.first, row.last)])),
        }
    }
    Ok(all.into_iter().map(|(key, ranges)| (key, Ranges::from_sorted(ranges))).collect())
}

/// Which sequences of each call are stored.
///
/// # Errors
/// When the database is away.
pub async fn sequences_of(store: &Store, keys: &[CallKey]) -> Result<Vec<(CallKey, Ranges)>, StoreError> {
    let from: Vec<(CallKey, i64)> = keys.iter().map(|key| (*key, 0)).collect();
    sequences_from(store, &from).await
}

/// A stored packet.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPacket {
    /// Its place in the call.
    pub sequence: i64,
    /// Its text.
    pub data: Vec<u8>,
    /// The sender's timestamp.
    pub sent_at: Option<DateTime<Utc>>,
}

/// All packets of a call in order.
///
/// # Errors
/// When the database is away.
pub async fn of_call(store: &Store, key: CallKey) -> Result<Vec<StoredPacket>, StoreError> {
    Ok(sqlx::query_as!(
        StoredPacket,
        "/* packets.of_call */ SELECT sequence, data, sent_at FROM packets WHERE call_key = $1 ORDER BY sequence",
        key.as_uuid()
    )
    .fetch_all(store.pool())
    .await?)
}

/// When the last packet of each call came.
///
/// # Errors
/// When the database is away.
pub async fn last_received(
    connection: &mut Link,
    keys: &[CallKey],
) -> Result<Vec<(CallKey, DateTime<Utc>)>, StoreError> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"/* packets.last_received */
        SELECT call_key, max(received_at) AS "at!" FROM packets WHERE call_key = ANY($1) GROUP BY call_key"#,
        &keys
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (CallKey::from_uuid(row.call_key), row.at)).collect())
}
