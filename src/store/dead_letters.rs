//! `dead_letters`: calls that were given up, one to one with the messages of the dead-letter stream.

use bytes::Bytes;
use sqlx::PgConnection;

use super::{StoreError, attempts};
use crate::domain::{Call, Failure};
use crate::wire::call::CallSummary;
use crate::wire::dead_letter::DeadLetter;
use crate::wire::outgoing::Outgoing;
use crate::wire::subject;

/// Lays down a call that is given up in this transaction, and returns the message that says so.
///
/// # Errors
/// When the database is away.
pub(super) async fn append(
    connection: &mut PgConnection,
    call: &Call,
    failure: &Failure,
) -> Result<Outgoing, StoreError> {
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
    Ok(Outgoing {
        msg_id: format!("dlq-{}-{}", call.key, call.generation),
        subject,
        payload: Bytes::from(payload),
        replaces: false,
    })
}
