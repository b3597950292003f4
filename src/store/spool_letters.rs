//! `spool_letters`: what came out of the spool and could not be stored.

use bytes::Bytes;
use uuid::Uuid;

use super::{Store, StoreError, outbox};
use crate::wire::outgoing::Outgoing;
use crate::wire::subject;

/// Lays down what could not be stored, and returns the message that says so; none when it lies there
/// already.
///
/// # Errors
/// When the database is away.
pub async fn append(store: &Store, id: Uuid, reason: &str, payload: &[u8]) -> Result<Vec<Outgoing>, StoreError> {
    let now = store.now();
    let subject = subject::spool_letter(id);
    let mut tx = store.begin().await?;
    let laid_down = sqlx::query!(
        r#"/* spool_letters.append */
        INSERT INTO spool_letters (id, reason, subject, payload, at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING"#,
        id,
        reason,
        subject,
        payload,
        now
    )
    .execute(&mut *tx)
    .await?;
    let mut outgoing = Vec::new();
    if laid_down.rows_affected() > 0 {
        let msg_id = format!("dlq-spool-{}", id.simple());
        let payload = Bytes::copy_from_slice(payload);
        outgoing.push(Outgoing { msg_id, subject, payload, replaces: false });
        outbox::append(&mut tx, &outgoing, now).await?;
    }
    tx.commit().await?;
    Ok(outgoing)
}

/// One of them, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SpoolLetter {
    /// Its name.
    pub id: Uuid,
    /// Why it could not be stored.
    pub reason: String,
    /// Bytes of it.
    pub bytes: i32,
    /// When it was laid down.
    pub at: chrono::DateTime<chrono::Utc>,
    /// Its message in the dead-letter stream, without an environment's prefix.
    pub subject: String,
}

/// Up to `limit` of them, the newest first.
///
/// # Errors
/// When the database is away.
pub async fn list(store: &Store, limit: u32) -> Result<Vec<SpoolLetter>, StoreError> {
    Ok(sqlx::query_as!(
        SpoolLetter,
        r#"/* spool_letters.list */
        SELECT id, reason, octet_length(payload) AS "bytes!", at, subject
          FROM spool_letters ORDER BY at DESC, id LIMIT $1"#,
        i64::from(limit)
    )
    .fetch_all(store.pool())
    .await?)
}
