//! Whether the outbox is drained.

use chrono::{DateTime, Utc};

use super::{Findings, Row, Snapshot};
use crate::store::StoreError;

impl Snapshot {
    /// Messages that have waited since before `young`, the oldest first, and how many younger ones
    /// are on their way.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn messages_left_behind(
        &mut self,
        young: DateTime<Utc>,
        limit: i64,
    ) -> Result<(Findings, i64), StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.messages_left_behind */
            SELECT msg_id AS "id!", format('for %s, since %s', subject, created_at) AS "detail!",
                   count(*) OVER () AS "total!"
              FROM outbox WHERE created_at < $1 ORDER BY created_at LIMIT $2"#,
            young,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let on_their_way = sqlx::query_scalar!(
            r#"/* audit.messages_on_their_way */ SELECT count(*) AS "count!" FROM outbox WHERE created_at >= $1"#,
            young
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok((rows.into(), on_their_way))
    }
}
