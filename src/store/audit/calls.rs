//! Whether each call is somewhere, and came there step by step.

use super::{Findings, Row, Snapshot};
use crate::store::StoreError;

impl Snapshot {
    /// Calls that are in no bucket or in several.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn misplaced_calls(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.misplaced_calls */
            SELECT call_id AS "id!", format('%s with ai_status %s is in %s buckets', state, ai_status, places) AS "detail!",
                   count(*) OVER () AS "total!"
              FROM (SELECT call_id, state, ai_status,
                           (state = 'IN_PROGRESS' AND ai_status = 'NONE')::int
                         + (state <> 'IN_PROGRESS' AND ai_status = 'PENDING')::int
                         + (state IN ('PROCESSING_AI', 'ARCHIVED') AND ai_status = 'RUNNING')::int
                         + (state IN ('FAILED', 'ARCHIVED') AND ai_status = 'RETRY_SCHEDULED')::int
                         + (state IN ('FAILED', 'ARCHIVED') AND ai_status = 'DEAD_LETTERED')::int
                         + (state = 'ARCHIVED' AND ai_status = 'SUCCEEDED')::int
                         + (state = 'ARCHIVED' AND ai_status = 'DISCARDED')::int AS places
                      FROM calls) AS placed
             WHERE places <> 1 LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }

    /// Calls whose timeline does not lead to what they are: a version without its one row, a step
    /// that does not begin where the one before ended, an illegal step, another end.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn broken_timelines(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.broken_timelines */
            WITH steps AS (
                SELECT t.*, lag(t.to_state) OVER (PARTITION BY t.call_key ORDER BY t.version) AS before
                  FROM transitions t),
            lines AS (
                SELECT s.call_key, count(*) AS rows, min(s.version) AS first, max(s.version) AS last,
                       count(*) FILTER (WHERE s.from_state IS DISTINCT FROM s.before) AS torn,
                       count(*) FILTER (WHERE s.from_state <> s.to_state AND a.to_state IS NULL) AS illegal
                  FROM steps s
                  LEFT JOIN call_transitions_allowed a USING (from_state, to_state)
                 GROUP BY s.call_key)
            SELECT c.call_id AS "id!",
                   format('version %s: %s rows from %s to %s, %s torn, %s illegal, ending in %s %s, the call is %s %s',
                          c.version, COALESCE(l.rows, 0), l.first, l.last, l.torn, l.illegal,
                          e.to_state, e.ai_status, c.state, c.ai_status) AS "detail!",
                   count(*) OVER () AS "total!"
              FROM calls c
              LEFT JOIN lines l ON l.call_key = c.key
              LEFT JOIN transitions e ON e.call_key = c.key AND e.version = c.version
             WHERE l.rows IS DISTINCT FROM c.version OR l.first <> 1 OR l.last <> c.version
                OR l.torn > 0 OR l.illegal > 0
                OR e.to_state IS DISTINCT FROM c.state OR e.ai_status IS DISTINCT FROM c.ai_status
             LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }

    /// Calls that wait for something and that the reconciler will never look at.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forgotten_calls(&mut self, limit: i64) -> Result<Findings, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"/* audit.forgotten_calls */
            SELECT call_id AS "id!", format('%s %s, and not on the reconciler''s agenda', state, ai_status) AS "detail!",
                   count(*) OVER () AS "total!"
              FROM calls
             WHERE reconcile_at IS NULL AND ai_status IN ('NONE', 'PENDING', 'RUNNING', 'RETRY_SCHEDULED')
             LIMIT $1"#,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await?;
        Ok(rows.into())
    }
}
