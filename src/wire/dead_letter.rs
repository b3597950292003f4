//! The message of the dead-letter stream: reference, summary and attempts; the packets stay in the
//! database.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::call::CallSummary;

/// Bytes in the longest body; beyond that the oldest attempts are left out.
pub const BODY_MAX_BYTES: usize = 256 * 1024;

/// A call that was given up, on `call.dlq.<class>.<tenant>.<key>.<generation>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The shape's version
    pub v: u8,
    /// The call's key
    pub key: Uuid,
    /// Which asking was given up
    pub generation: i32,
    /// The class of the last failure
    pub class: String,
    /// What equal failures share
    pub fingerprint: String,
    /// What happened last
    pub message: String,
    /// When it was given up
    pub at: DateTime<Utc>,
    /// The call as it was then
    pub call: CallSummary,
    /// The attempts, oldest first
    pub attempts: Vec<FailedAttempt>,
}

/// One attempt in a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailedAttempt {
    /// Which attempt
    pub attempt: i32,
    /// Who asked
    pub worker: String,
    /// When it began
    pub started_at: DateTime<Utc>,
    /// When it ended
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended
    pub class: Option<String>,
    /// The HTTP status of the answer
    pub http_status: Option<i32>,
    /// What happened
    pub message: Option<String>,
}

impl DeadLetter {
    /// The body, within [`BODY_MAX_BYTES`]: the oldest attempts go first.
    #[must_use]
    pub fn into_body(mut self) -> Vec<u8> {
        loop {
            let body = serde_json::to_vec(&self).unwrap_or_default();
            if body.len() <= BODY_MAX_BYTES || self.attempts.is_empty() {
                return body;
            }
            self.attempts.drain(..self.attempts.len().div_ceil(2));
        }
    }
}
