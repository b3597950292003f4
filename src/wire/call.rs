//! A call as the API shows it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{AiStatus, Call, Metadata, Ranges, State};

/// A call in lists, events and snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallSummary {
    /// The PBX's id
    pub call_id: String,
    /// Whose call it is
    pub tenant: String,
    /// Where it is
    pub state: State,
    /// What the AI's work has come to
    pub ai_status: AiStatus,
    /// Raised by one with every change
    pub version: i32,
    /// Attempts so far
    pub attempts: u32,
    /// When the next attempt is due; null while none is scheduled
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What the PBX said of it
    pub metadata: Metadata,
    /// First packet
    pub created_at: DateTime<Utc>,
    /// Last change
    pub updated_at: DateTime<Utc>,
    /// When it was over; null before
    pub completed_at: Option<DateTime<Utc>>,
    /// When it was done with; null before
    pub archived_at: Option<DateTime<Utc>>,
}

impl From<&Call> for CallSummary {
    fn from(call: &Call) -> Self {
        Self {
            call_id: call.call_id.as_str().to_owned(),
            tenant: call.tenant.as_str().to_owned(),
            state: call.state,
            ai_status: call.ai_status,
            version: call.version,
            attempts: call.attempts.total(),
            next_attempt_at: call.next_attempt_at,
            metadata: call.metadata.clone(),
            created_at: call.created_at,
            updated_at: call.updated_at,
            completed_at: call.completed_at,
            archived_at: call.archived_at,
        }
    }
}

/// `GET /v1/call/{call_id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// The call itself
    #[serde(flatten)]
    pub call: CallSummary,
    /// What came of it
    pub packets: PacketCounts,
    /// The newest transcript; null before
    pub transcript: Option<String>,
    /// When the end signal came; null before
    pub ended_at: Option<DateTime<Utc>>,
    /// A packet over the call's caps was refused
    pub over_limit: bool,
}

/// The packets of a call in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketCounts {
    /// Stored, each sequence once
    pub received: i64,
    /// The highest sequence that came
    pub last_sequence: Option<i64>,
    /// Sequences that did not come, as inclusive ranges
    pub missing: Ranges,
    /// Further copies of stored packets
    pub duplicates: i64,
    /// Copies with other content than the stored packet's
    pub conflicts: i64,
    /// Stored but not sent by the attempt that made the transcript
    pub late: i64,
}

/// `GET /v1/calls`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallPage {
    /// Calls, the newest first
    pub calls: Vec<CallSummary>,
    /// Pass as `after` for the next page; null on the last
    pub next: Option<String>,
}

/// `GET /v1/calls/{call_id}/timeline`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// The PBX's id
    pub call_id: String,
    /// Where it is
    pub state: State,
    /// What the AI's work has come to
    pub ai_status: AiStatus,
    /// Why the call waits now, for people; null when it waits for nothing
    pub waiting_for: Option<String>,
    /// There are older entries than these: only the newest thousand of each kind are shown
    #[serde(default)]
    pub earlier_left_out: bool,
    /// Transitions and attempts in order
    pub entries: Vec<TimelineEntry>,
}

/// One line of a timeline.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TimelineEntry {
    /// The call changed.
    Transition {
        /// When
        at: DateTime<Utc>,
        /// The version it got
        version: i32,
        /// Where it was; null for the first packet
        from: Option<State>,
        /// Where it went
        to: State,
        /// What the AI's work had come to
        ai_status: AiStatus,
        /// Who did it
        actor: String,
        /// Why
        reason: String,
    },
    /// The AI service was asked.
    Attempt {
        /// When it began
        at: DateTime<Utc>,
        /// Which asking
        generation: i32,
        /// Which attempt of it
        attempt: i32,
        /// Who asked
        worker: String,
        /// When it ended; null while it runs
        ended_at: Option<DateTime<Utc>>,
        /// How it ended; null while it runs
        class: Option<String>,
        /// The HTTP status of the answer
        http_status: Option<i32>,
        /// What equal failures share
        fingerprint: Option<String>,
        /// What happened
        message: Option<String>,
        /// Whether it counts against the budget
        charged: bool,
        /// Which sequences were sent, as inclusive ranges
        sent: Option<Ranges>,
    },
}

impl TimelineEntry {
    /// When it happened.
    #[must_use]
    pub const fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Transition { at, .. } | Self::Attempt { at, .. } => *at,
        }
    }
}
