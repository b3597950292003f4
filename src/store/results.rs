//! `results`: what the AI service answered.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;
use super::rows::column_count;
use crate::domain::Call;

/// Stores an answer, in the transaction that archives the call.
///
/// # Errors
/// When the database is away, or the generation has an answer already.
pub async fn append(
    connection: &mut PgConnection,
    call: &Call,
    transcript: &str,
    response: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"/* results.append */
        INSERT INTO results (call_key, generation, attempt, transcript, response, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)"#,
        call.key.as_uuid(),
        call.generation,
        column_count(call.attempts.total()),
        transcript,
        response,
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}
