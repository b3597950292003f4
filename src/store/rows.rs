//! Rows of `calls` to calls and back.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{Attempts, Call, CallId, CallKey, End, Lease, Metadata, Tenant};

/// The column `tags`.
pub(super) type Tags = Json<std::collections::BTreeMap<String, String>>;

/// A row of `calls`, whole.
#[derive(Debug)]
pub(super) struct CallRow {
    pub(super) key: Uuid,
    pub(super) tenant: String,
    pub(super) call_id: String,
    pub(super) state: String,
    pub(super) ai_status: String,
    pub(super) version: i32,
    pub(super) generation: i32,
    pub(super) queue: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) from_party: Option<String>,
    pub(super) to_party: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) tags: Tags,
    pub(super) attempts_charged: i32,
    pub(super) attempts_uncharged: i32,
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) end_reason: Option<String>,
    pub(super) final_sequence: Option<i64>,
    pub(super) lease_token: Option<Uuid>,
    pub(super) lease_until: Option<DateTime<Utc>>,
    pub(super) next_attempt_at: Option<DateTime<Utc>>,
    pub(super) reconcile_at: Option<DateTime<Utc>>,
    pub(super) over_limit_at: Option<DateTime<Utc>>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    pub(super) completed_at: Option<DateTime<Utc>>,
    pub(super) archived_at: Option<DateTime<Utc>>,
}

impl TryFrom<CallRow> for Call {
    type Error = StoreError;

    fn try_from(row: CallRow) -> Result<Self, StoreError> {
        let key = CallKey::from_uuid(row.key);
        let unreadable = |detail: String| StoreError::Unreadable { key, detail };
        Ok(Self {
            key,
            tenant: Tenant::new(row.tenant).map_err(|error| unreadable(error.to_string()))?,
            call_id: CallId::new(row.call_id).map_err(|error| unreadable(error.to_string()))?,
            state: row.state.parse().map_err(|error| unreadable(format!("state {error}")))?,
            ai_status: row.ai_status.parse().map_err(|error| unreadable(format!("ai_status {error}")))?,
            version: row.version,
            generation: row.generation,
            metadata: Metadata {
                queue: row.queue,
                direction: row.direction,
                from: row.from_party,
                to: row.to_party,
                agent: row.agent,
                tags: row.tags.0,
            },
            attempts: Attempts {
                charged: u32::try_from(row.attempts_charged).unwrap_or(0),
                uncharged: u32::try_from(row.attempts_uncharged).unwrap_or(0),
            },
            end: row.ended_at.map(|at| End {
                at,
                reason: row.end_reason.unwrap_or_default(),
                final_sequence: row.final_sequence,
            }),
            lease: row.lease_token.zip(row.lease_until).map(|(token, until)| Lease { token, until }),
            next_attempt_at: row.next_attempt_at,
            reconcile_at: row.reconcile_at,
            over_limit_at: row.over_limit_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            completed_at: row.completed_at,
            archived_at: row.archived_at,
        })
    }
}

/// A count as a column holds it; counts stay far below the column's end.
pub(super) fn column_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
