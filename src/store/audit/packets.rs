//! Whether the packets are there that should be.

use uuid::Uuid;

use super::{Findings, Row, Snapshot};
use crate::domain::CallKey;
use crate::store::StoreError;

impl Snapshot {
    /// Stored packets, by key of their call, whose call is not there.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn packets_without_call(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.packets_without_call */
            SELECT replace(call_key::text, '-', '') AS "id!", format('%s packets of a call that is not there', rows) AS "detail!",
                   count(*) OVER () AS "total!"
              FROM (SELECT p.call_key, count(*) AS rows
                      FROM packets p LEFT JOIN calls c ON c.key = p.call_key
                     WHERE c.key IS NULL GROUP BY p.call_key) AS lost
             LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }

    /// The places in `packets` of those that are not stored.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn not_stored(&mut self, packets: &[(CallKey, i64)]) -> Result<Vec<usize>, StoreError> {
        let (keys, sequences): (Vec<Uuid>, Vec<i64>) = packets.iter().map(|(key, seq)| (key.as_uuid(), *seq)).unzip();
        let places = sqlx::query_scalar!(
            r#"/* audit.not_stored */
            SELECT n.place AS "place!"
              FROM UNNEST($1::uuid[], $2::bigint[]) WITH ORDINALITY AS n (call_key, sequence, place)
             WHERE NOT EXISTS (SELECT FROM packets p WHERE p.call_key = n.call_key AND p.sequence = n.sequence)
             ORDER BY n.place"#,
            &keys,
            &sequences
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(places.into_iter().filter_map(|place| usize::try_from(place - 1).ok()).collect())
    }

    /// How many packets of these calls are stored, all together.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn stored_of(&mut self, keys: &[CallKey]) -> Result<i64, StoreError> {
        let keys: Vec<Uuid> = keys.iter().map(|key| key.as_uuid()).collect();
        Ok(sqlx::query_scalar!(
            r#"/* audit.stored_of */ SELECT count(*) AS "count!" FROM packets WHERE call_key = ANY($1)"#,
            &keys
        )
        .fetch_one(&mut *self.tx)
        .await?)
    }
}
