//! Whether attempts and transcripts fit the calls they belong to.

use super::{Findings, Row, Snapshot};
use crate::store::StoreError;

impl Snapshot {
    /// Calls whose attempts are not those that they count: others in number, others charged, one
    /// open that is not running or none open that is.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn miscounted_attempts(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.miscounted_attempts */
            WITH tried AS (
                SELECT call_key, generation, count(*) AS rows, max(attempt) AS last,
                       count(*) FILTER (WHERE charged) AS charged, count(*) FILTER (WHERE ended_at IS NULL) AS open
                  FROM attempts GROUP BY call_key, generation)
            SELECT call_id AS "id!", detail AS "detail!", count(*) OVER () AS "total!"
              FROM (SELECT c.call_id,
                           format('%s attempts (the last is %s), %s charged, %s open; the call counts %s, %s charged, and is %s',
                                  COALESCE(t.rows, 0), t.last, COALESCE(t.charged, 0), COALESCE(t.open, 0),
                                  c.attempts_charged + c.attempts_uncharged, c.attempts_charged, c.ai_status) AS detail
                      FROM calls c LEFT JOIN tried t ON t.call_key = c.key AND t.generation = c.generation
                     WHERE COALESCE(t.rows, 0) <> c.attempts_charged + c.attempts_uncharged
                        OR COALESCE(t.charged, 0) <> c.attempts_charged
                        OR COALESCE(t.open, 0) <> (c.ai_status = 'RUNNING')::int
                        OR t.last <> t.rows
                    UNION ALL
                    SELECT c.call_id, format('generation %s: %s attempts (the last is %s), %s open; the call is at generation %s',
                                             t.generation, t.rows, t.last, t.open, c.generation)
                      FROM tried t JOIN calls c ON c.key = t.call_key
                     WHERE t.generation > c.generation OR (t.generation < c.generation AND (t.open > 0 OR t.last <> t.rows))
                   ) AS wrong
             LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }

    /// Calls that succeeded without exactly one transcript, transcripts without a call that
    /// succeeded, and either without the attempt that made it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn misplaced_transcripts(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.misplaced_transcripts */
            SELECT call_id AS "id!", detail AS "detail!", count(*) OVER () AS "total!"
              FROM (SELECT c.call_id,
                           CASE WHEN r.call_key IS NULL THEN format('succeeded without a transcript of generation %s', c.generation)
                                ELSE format('has a transcript of generation %s and is %s', r.generation, c.ai_status) END AS detail
                      FROM calls c LEFT JOIN results r ON r.call_key = c.key AND r.generation = c.generation
                     WHERE (c.ai_status = 'SUCCEEDED') <> (r.call_key IS NOT NULL)
                    UNION ALL
                    SELECT c.call_id,
                           CASE WHEN a.call_key IS NULL
                                THEN format('has a transcript of attempt %s.%s, which did not succeed', r.generation, r.attempt)
                                WHEN r.call_key IS NULL
                                THEN format('attempt %s.%s succeeded without a transcript', a.generation, a.attempt)
                                ELSE format('has a transcript of generation %s, which is to come', r.generation) END
                      FROM results r
                      FULL JOIN (SELECT * FROM attempts WHERE class = 'done') a
                        ON a.call_key = r.call_key AND a.generation = r.generation AND a.attempt = r.attempt
                      JOIN calls c ON c.key = COALESCE(r.call_key, a.call_key)
                     WHERE a.call_key IS NULL OR r.call_key IS NULL OR r.generation > c.generation) AS wrong
             LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }
}
