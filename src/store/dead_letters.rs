//! `dead_letters`: calls that were given up, one to one with the messages of the dead-letter stream.

use bytes::Bytes;

use super::{Link, Store, StoreError, attempts, outbox};
use crate::domain::{Call, CallKey, Failure};
use crate::wire::call::CallSummary;
use crate::wire::dead_letter::DeadLetter;
use crate::wire::outgoing::Outgoing;
use crate::wire::subject;

/// Lays down a call that is given up in this transaction, and returns the message that says so.
///
/// # Errors
/// When the database is away.
pub(super) async fn append(connection: &mut Link, call: &Call, failure: &Failure) -> Result<Outgoing, StoreError> {
    let letter = DeadLetter {
        v: 1,
        key: call.key.as_uuid(),
        generation: call.generation,
        class: failure.class.as_str().to_owned(),
        fingerprint: failure.fingerprint(),
        message: failure.message.clone(),
        at: call.updated_at,
        call: CallSummary::from(call),
        attempts: attempts::of_generation(connection, call.key, call.generation).await?,
    };
    let subject = subject::dead_letter(failure.class, &call.tenant, call.key, call.generation);
    let (class, fingerprint, message) = (letter.class.clone(), letter.fingerprint.clone(), letter.message.clone());
    let payload = letter.into_body();
    sqlx::query!(
        r#"/* dead_letters.append */
        INSERT INTO dead_letters (call_key, generation, class, fingerprint, message, subject, payload, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"#,
        call.key.as_uuid(),
        call.generation,
        class,
        fingerprint,
        message,
        subject,
        payload,
        call.updated_at
    )
    .execute(connection)
    .await?;
    Ok(Outgoing { msg_id: msg_id(call.key, call.generation), subject, payload: Bytes::from(payload), replaces: false })
}

/// Of `subjects`, those for which there is no dead letter.
///
/// # Errors
/// When the database is away.
pub async fn unknown(store: &Store, subjects: &[String]) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"/* dead_letters.unknown */
        SELECT n.subject AS "subject!" FROM UNNEST($1::text[]) AS n (subject)
         WHERE NOT EXISTS (SELECT FROM dead_letter_messages d WHERE d.subject = n.subject)"#,
        subjects
    )
    .fetch_all(store.pool())
    .await?)
}

/// Up to `limit` subjects of dead letters in order, after `after`.
///
/// # Errors
/// When the database is away.
pub async fn subjects(store: &Store, after: &str, limit: i64) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"/* dead_letters.subjects */
        SELECT subject AS "subject!" FROM dead_letter_messages WHERE subject > $1 ORDER BY subject LIMIT $2"#,
        after,
        limit
    )
    .fetch_all(store.pool())
    .await?)
}

/// Sends the messages of dead letters again, through the outbox.
///
/// # Errors
/// When the database is away.
pub async fn send_again(store: &Store, subjects: &[String]) -> Result<Vec<Outgoing>, StoreError> {
    let mut tx = store.begin().await?;
    let rows = sqlx::query!(
        r#"/* dead_letters.send_again */
        SELECT msg_id AS "msg_id!", subject AS "subject!", payload AS "payload!"
          FROM dead_letter_messages WHERE subject = ANY($1)"#,
        subjects
    )
    .fetch_all(&mut *tx)
    .await?;
    let message = |msg_id, subject, payload: Vec<u8>| Outgoing {
        msg_id,
        subject,
        payload: Bytes::from(payload),
        replaces: false,
    };
    let messages: Vec<Outgoing> = rows.into_iter().map(|row| message(row.msg_id, row.subject, row.payload)).collect();
    outbox::append(&mut tx, &messages, store.now()).await?;
    tx.commit().await?;
    Ok(messages)
}

fn msg_id(key: CallKey, generation: i32) -> String {
    format!("dlq-{key}-{generation}")
}
