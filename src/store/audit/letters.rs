//! Whether dead calls, dead letters and the messages of the dead-letter stream are the same.

use chrono::{DateTime, Utc};

use super::{Findings, Row, Snapshot};
use crate::store::StoreError;

impl Snapshot {
    /// Dead calls without their letter, and letters whose call is not dead (any more).
    ///
    /// # Errors
    /// When the database is away.
    pub async fn misplaced_letters(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.misplaced_letters */
            SELECT call_id AS "id!", detail AS "detail!", count(*) OVER () AS "total!"
              FROM (SELECT c.call_id,
                           CASE WHEN d.call_key IS NULL THEN format('is dead without a letter of generation %s', c.generation)
                                ELSE format('has a dead letter and is %s %s', c.state, c.ai_status) END AS detail
                      FROM calls c LEFT JOIN dead_letters d ON d.call_key = c.key AND d.generation = c.generation
                     WHERE (c.ai_status = 'DEAD_LETTERED') <> (d.call_key IS NOT NULL)
                    UNION ALL
                    SELECT c.call_id, format('has a dead letter of generation %s and is at %s', d.generation, c.generation)
                      FROM dead_letters d JOIN calls c ON c.key = d.call_key
                     WHERE d.generation <> c.generation) AS wrong
             LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }

    /// Letters without their message among `subjects`, which is what the dead-letter stream holds.
    /// Letters laid down since `young`, and those whose message the outbox has, are on their way.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn letters_without_message(
        &mut self,
        subjects: &[String],
        young: DateTime<Utc>,
        limit: i64,
    ) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.letters_without_message */
            SELECT COALESCE(c.call_id, d.msg_id) AS "id!", format('nothing on %s', d.subject) AS "detail!", count(*) OVER () AS "total!"
              FROM dead_letter_messages d
              LEFT JOIN calls c ON c.key = d.call_key
              LEFT JOIN UNNEST($1::text[]) AS s (subject) ON s.subject = d.subject
             WHERE s.subject IS NULL AND d.at < $2
               AND NOT EXISTS (SELECT FROM outbox o WHERE o.msg_id = d.msg_id)
             LIMIT $3"#,
            subjects,
            young,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }

    /// Those of `subjects` that belong to no letter.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn messages_without_letter(&mut self, subjects: &[String], limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.messages_without_letter */
            SELECT s.subject AS "id!", 'a message in CALL_DLQ without a dead letter' AS "detail!",
                   count(*) OVER () AS "total!"
              FROM UNNEST($1::text[]) AS s (subject)
             WHERE NOT EXISTS (SELECT FROM dead_letter_messages d WHERE d.subject = s.subject)
             LIMIT $2"#,
            subjects,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }
}
