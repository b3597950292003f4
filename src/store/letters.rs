//! Reading `dead_letters`: lists, one, and how they group.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Store, StoreError};
use crate::domain::{CallKey, Class, Tenant};

/// A dead letter as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// The PBX's id of the call.
    pub call_id: String,
    /// Which asking was given up.
    pub generation: i32,
    /// The class of the last failure.
    pub class: String,
    /// What equal failures share.
    pub fingerprint: String,
    /// What happened last.
    pub message: String,
    /// Attempts that were made.
    pub attempts: i32,
    /// When it was given up.
    pub at: DateTime<Utc>,
    /// Its message in the dead-letter stream, without an environment's prefix.
    pub subject: String,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of which class; none for any.
    pub class: Option<Class>,
    /// Of which call; none for any.
    pub key: Option<CallKey>,
}

/// A tenant's dead letters, up to `limit`, the newest first.
///
/// # Errors
/// When the database is away.
pub async fn list(store: &Store, tenant: &Tenant, filter: &Filter, limit: u32) -> Result<Vec<Letter>, StoreError> {
    Ok(sqlx::query_as!(
        Letter,
        r#"/* letters.list */
        SELECT c.call_id, d.generation, d.class, d.fingerprint, d.message,
               c.attempts_charged + c.attempts_uncharged AS "attempts!", d.at, d.subject
          FROM dead_letters d JOIN calls c ON c.key = d.call_key
         WHERE c.tenant = $1 AND ($2::text IS NULL OR d.class = $2) AND ($3::uuid IS NULL OR d.call_key = $3)
         ORDER BY d.at DESC, d.call_key LIMIT $4"#,
        tenant.as_str(),
        filter.class.map(Class::as_str),
        filter.key.map(CallKey::as_uuid),
        i64::from(limit)
    )
    .fetch_all(store.pool())
    .await?)
}

/// Dead letters that share a class and a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The class.
    pub class: String,
    /// The fingerprint.
    pub fingerprint: String,
    /// How many.
    pub count: i64,
    /// What happened, in the words of the newest.
    pub message: String,
}

/// The kinds of failure among all dead letters, up to `limit`, the most frequent first.
///
/// # Errors
/// When the database is away.
pub async fn groups(store: &Store, limit: u32) -> Result<Vec<Group>, StoreError> {
    Ok(sqlx::query_as!(
        Group,
        r#"/* letters.groups */
        SELECT class, fingerprint, count(*) AS "count!", (array_agg(message ORDER BY at DESC))[1] AS "message!"
          FROM dead_letters GROUP BY class, fingerprint ORDER BY count(*) DESC, fingerprint LIMIT $1"#,
        i64::from(limit)
    )
    .fetch_all(store.pool())
    .await?)
}

/// How many dead letters there are.
///
/// # Errors
/// When the database is away.
pub async fn count(store: &Store) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"/* letters.count */ SELECT count(*) AS "count!" FROM dead_letters"#)
        .fetch_one(store.pool())
        .await?)
}
