//! `results`: what the AI service answered.

use chrono::{DateTime, Utc};

use super::rows::column_count;
use super::{Link, StoreError};
use crate::domain::Call;

/// Stores answers (call, transcript, whole answer), in the transaction that archives the calls.
///
/// # Errors
/// When the database is away, or a generation has an answer already.
pub async fn append(
    connection: &mut Link,
    answers: &[(&Call, &str, &str)],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let calls = || answers.iter().map(|(call, _, _)| call);
    sqlx::query!(
        r#"/* results.append */
        INSERT INTO results (call_key, generation, attempt, transcript, response, created_at)
        SELECT key, generation, attempt, transcript, response, $6
          FROM UNNEST($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[])
            AS r (key, generation, attempt, transcript, response)"#,
        &calls().map(|c| c.key.as_uuid()).collect::<Vec<_>>(),
        &calls().map(|c| c.generation).collect::<Vec<_>>(),
        &calls().map(|c| column_count(c.attempts.total())).collect::<Vec<_>>(),
        &answers.iter().map(|(_, transcript, _)| (*transcript).to_owned()).collect::<Vec<_>>(),
        &answers.iter().map(|(_, _, response)| (*response).to_owned()).collect::<Vec<_>>(),
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}
