//! `attempts`: one row for every request to the AI service.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::rows::column_count;
use super::{Link, StoreError};
use crate::domain::{Call, CallKey, Class, Failure, Ranges};
use crate::wire::dead_letter::FailedAttempt;

/// Begins an attempt for each call just claimed in this transaction, and ends those that a former
/// worker left open as crashes.
///
/// # Errors
/// When the database is away.
pub async fn begin(connection: &mut Link, claimed: &[(&Call, &str)], now: DateTime<Utc>) -> Result<(), StoreError> {
    let keys: Vec<Uuid> = claimed.iter().map(|(call, _)| call.key.as_uuid()).collect();
    let generations: Vec<i32> = claimed.iter().map(|(call, _)| call.generation).collect();
    close_crashed(connection, &keys, now).await?;
    sqlx::query!(
        r#"/* attempts.begin */
        INSERT INTO attempts (call_key, generation, attempt, worker, started_at, charged)
        SELECT key, generation, attempt, worker, $5, true
          FROM UNNEST($1::uuid[], $2::int[], $3::int[], $4::text[]) AS a (key, generation, attempt, worker)"#,
        &keys,
        &generations,
        &claimed.iter().map(|(call, _)| column_count(call.attempts.total())).collect::<Vec<_>>(),
        &claimed.iter().map(|(_, worker)| (*worker).to_owned()).collect::<Vec<_>>(),
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the open attempts of calls whose worker is gone.
///
/// # Errors
/// When the database is away.
pub async fn close_crashed(connection: &mut Link, keys: &[Uuid], now: DateTime<Utc>) -> Result<(), StoreError> {
    let crash = Failure::crash();
    sqlx::query!(
        r#"/* attempts.close_crashed */
        UPDATE attempts SET ended_at = $2, class = $3, stage = $4, fingerprint = $5, message = $6
         WHERE call_key = ANY($1) AND ended_at IS NULL"#,
        keys,
        now,
        crash.class.as_str(),
        crash.stage.as_str(),
        crash.fingerprint(),
        crash.message
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Ended<'a> {
    /// The call, as it was while the attempt ran.
    pub call: &'a Call,
    /// How.
    pub class: Class,
    /// Why, unless it succeeded or was handed back.
    pub failure: Option<&'a Failure>,
    /// The HTTP status of the answer.
    pub http_status: Option<u16>,
    /// Which sequences were sent; none when it did not come to that.
    pub sent: Option<&'a Ranges>,
}

/// Ends the running attempts of calls, in the transaction that records their outcomes.
///
/// # Errors
/// When the database is away.
pub async fn end(connection: &mut Link, ended: &[Ended<'_>], now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        r#"/* attempts.end */
        UPDATE attempts a
           SET ended_at = $11, class = e.class, charged = e.charged, http_status = e.http_status, stage = e.stage,
               fingerprint = e.fingerprint, message = e.message, sent = e.sent
          FROM UNNEST($1::uuid[], $2::int[], $3::int[], $4::text[], $5::bool[], $6::int[], $7::text[], $8::text[],
                      $9::text[], $10::jsonb[])
            AS e (key, generation, attempt, class, charged, http_status, stage, fingerprint, message, sent)
         WHERE a.call_key = e.key AND a.generation = e.generation AND a.attempt = e.attempt AND a.ended_at IS NULL"#,
        &ended.iter().map(|e| e.call.key.as_uuid()).collect::<Vec<_>>(),
        &ended.iter().map(|e| e.call.generation).collect::<Vec<_>>(),
        &ended.iter().map(|e| column_count(e.call.attempts.total())).collect::<Vec<_>>(),
        &ended.iter().map(|e| e.class.as_str().to_owned()).collect::<Vec<_>>(),
        &ended.iter().map(|e| e.class.is_charged()).collect::<Vec<_>>(),
        &ended.iter().map(|e| e.http_status.map(i32::from)).collect::<Vec<_>>() as _,
        &ended.iter().map(|e| e.failure.map(|f| f.stage.as_str().to_owned())).collect::<Vec<_>>() as _,
        &ended.iter().map(|e| e.failure.map(Failure::fingerprint)).collect::<Vec<_>>() as _,
        &ended.iter().map(|e| e.failure.map(|f| f.message.clone())).collect::<Vec<_>>() as _,
        &ended.iter().map(|e| e.sent.map(Json)).collect::<Vec<_>>() as _,
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many unreadable answers a generation has had.
///
/// # Errors
/// When the database is away.
pub async fn count_invalid(connection: &mut Link, key: CallKey, generation: i32) -> Result<u32, StoreError> {
    let count = sqlx::query_scalar!(
        r#"/* attempts.count_invalid */
        SELECT count(*) AS "count!" FROM attempts WHERE call_key = $1 AND generation = $2 AND class = 'invalid'"#,
        key.as_uuid(),
        generation
    )
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The attempts of one generation, oldest first.
///
/// # Errors
/// When the database is away.
pub async fn of_generation(
    connection: &mut Link,
    key: CallKey,
    generation: i32,
) -> Result<Vec<FailedAttempt>, StoreError> {
    Ok(sqlx::query_as!(
        FailedAttempt,
        r#"/* attempts.of_generation */
        SELECT attempt, worker, started_at, ended_at, class, http_status, message
          FROM attempts WHERE call_key = $1 AND generation = $2 ORDER BY attempt"#,
        key.as_uuid(),
        generation
    )
    .fetch_all(connection)
    .await?)
}
