//! Calls in pages, the newest first.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rows::{CallRow, Tags};
use super::{Store, StoreError};
use crate::domain::{Call, CallKey, State, Tenant};
use crate::wire::call::{CallPage, CallSummary};

/// Calls on a page when nothing else is asked for.
pub const PAGE_DEFAULT: u32 = 100;
/// Calls on the largest page.
pub const PAGE_MAX: u32 = 1000;

/// Which calls.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whose.
    pub tenant: Tenant,
    /// In which state; none for any.
    pub state: Option<State>,
    /// Of which queue; none for any or none.
    pub queue: Option<String>,
}

/// The place after a page's last call. Its text is opaque to callers and survives a URL as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    created_at: DateTime<Utc>,
    key: CallKey,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor: pass the `next` of the page before, unchanged")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.created_at.timestamp_micros(), self.key)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (micros, key) = text.split_once('-').ok_or(InvalidCursor)?;
        let micros = i64::from_str_radix(micros, 16).map_err(|_| InvalidCursor)?;
        let cursor = Self {
            created_at: DateTime::from_timestamp_micros(micros).ok_or(InvalidCursor)?,
            key: CallKey::parse(key).ok_or(InvalidCursor)?,
        };
        // Only the one spelling: whoever changes a cursor hears of it.
        if cursor.to_string() == text { Ok(cursor) } else { Err(InvalidCursor) }
    }
}

/// Up to `limit` calls, within 1 and [`PAGE_MAX`], that come after `after` in order of age and key.
///
/// # Errors
/// When the database is away.
pub async fn page(store: &Store, filter: &Filter, after: Option<Cursor>, limit: u32) -> Result<CallPage, StoreError> {
    let limit = limit.clamp(1, PAGE_MAX);
    // One branch for each index, chosen by what is given: a plan that serves all filters would read
    // every call to find a few. The one row too many says whether there is a next page.
    let rows = sqlx::query_as!(
        CallRow,
        r#"/* lists.page */
        WITH page AS (
            (SELECT key FROM calls
              WHERE $2::text IS NULL AND $3::text IS NULL AND tenant = $1
                AND (created_at, key) < (COALESCE($4::timestamptz, 'infinity'), $5)
              ORDER BY created_at DESC, key DESC LIMIT $6)
            UNION ALL
            (SELECT key FROM calls
              WHERE state = $2 AND $3::text IS NULL AND tenant = $1
                AND (created_at, key) < (COALESCE($4, 'infinity'), $5)
              ORDER BY created_at DESC, key DESC LIMIT $6)
            UNION ALL
            (SELECT key FROM calls
              WHERE queue = $3 AND ($2::text IS NULL OR state = $2) AND tenant = $1
                AND (created_at, key) < (COALESCE($4, 'infinity'), $5)
              ORDER BY created_at DESC, key DESC LIMIT $6))
        SELECT key AS "key!", tenant, call_id, state, ai_status, version, generation,
               queue, direction, from_party, to_party, agent, tags AS "tags: Tags",
               attempts_charged, attempts_uncharged, ended_at, end_reason, final_sequence,
               lease_token, lease_until, next_attempt_at, reconcile_at, over_limit_at,
               created_at, updated_at, completed_at, archived_at
          FROM page JOIN calls USING (key) ORDER BY created_at DESC, key DESC"#,
        filter.tenant.as_str(),
        filter.state.map(State::as_str),
        filter.queue.as_deref(),
        after.map(|cursor| cursor.created_at),
        after.map_or(Uuid::max(), |cursor| cursor.key.as_uuid()),
        i64::from(limit) + 1,
    )
    .fetch_all(store.pool())
    .await?;
    let mut calls: Vec<Call> = rows.into_iter().map(Call::try_from).collect::<Result<_, _>>()?;
    let has_more = calls.len() > limit as usize;
    calls.truncate(limit as usize);
    let next = calls.last().filter(|_| has_more).map(|last| Cursor { created_at: last.created_at, key: last.key });
    Ok(CallPage { calls: calls.iter().map(CallSummary::from).collect(), next: next.map(|cursor| cursor.to_string()) })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{Cursor, InvalidCursor};
    use crate::domain::CallKey;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        for micros in [1_700_000_000_123_456, 0] {
            let created_at = DateTime::from_timestamp_micros(micros).unwrap();
            let cursor = Cursor { created_at, key: CallKey::from_uuid(uuid::Uuid::from_u128(7)) };
            let text = cursor.to_string();
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text}");
            assert_eq!(text.parse(), Ok(cursor));
            assert_eq!(
                text.to_uppercase().parse::<Cursor>(),
                if micros == 0 { Ok(cursor) } else { Err(InvalidCursor) }
            );
        }
        for text in ["", "-", "zz-1", "1", "1-2", "ffffffffffffffffff-00000000000000000000000000000007"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
