//! Made-up calls for this room's tests.

use chrono::DateTime;

use crate::domain::{AiStatus, Metadata, State};
use crate::wire::call::CallSummary;

/// A call of which only what is given matters.
pub(super) fn call(id: &str, version: i32, state: State, queue: Option<&str>) -> CallSummary {
    CallSummary {
        call_id: id.to_owned(),
        tenant: "default".to_owned(),
        state,
        ai_status: AiStatus::None,
        version,
        attempts: 0,
        next_attempt_at: None,
        metadata: Metadata { queue: queue.map(str::to_owned), ..Metadata::default() },
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        completed_at: None,
        archived_at: None,
    }
}
