//! What supervisors are sent: every frame is JSON with `event_type`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::CallSummary;
use crate::domain::State;

/// The message of the state stream, on `call.state.<tenant>.<state>.<key>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateChanged {
    /// The shape's version.
    pub v: u8,
    /// Where the call was; none for its first packet.
    pub from: Option<State>,
    /// Where it is.
    pub to: State,
    /// When.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// The call as it is.
    pub call: CallSummary,
}

/// The shape of the frames, as `hello` names it.
pub const PROTOCOL: &str = "callfleet.v1.json";
/// Bytes in a page of a snapshot, unless a single call takes more.
pub const SNAPSHOT_PAGE_MAX_BYTES: usize = 32 * 1024;

/// Why a socket is closed: up to 4499 come back, from 4500 on do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The program ends: come back after `going_away`'s time.
    GoingAway,
    /// The present could not be read: come back.
    StoreAway,
    /// Too slow a reader, again and again: come back.
    TooSlow,
    /// Nothing heard, not even answers to pings: come back.
    Silent,
    /// What was sent cannot be read, or is over the limit.
    BadFrame,
    /// Too many frames.
    TooManyFrames,
}

impl Close {
    /// The number in the close frame.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::StoreAway => 4001,
            Self::TooSlow => 4002,
            Self::Silent => 4003,
            Self::BadFrame => 4500,
            Self::TooManyFrames => 4501,
        }
    }

    /// The name in the close frame, in `error` and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GoingAway => "going_away",
            Self::StoreAway => "store_away",
            Self::TooSlow => "too_slow",
            Self::Silent => "silent",
            Self::BadFrame => "bad_frame",
            Self::TooManyFrames => "too_many_frames",
        }
    }

    /// Whether coming back can help.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        self.code() < 4500
    }
}

/// A frame to a supervisor.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event_type")]
pub enum Frame {
    /// The first frame: who we are.
    #[serde(rename = "hello")]
    Hello {
        /// The protocol
        protocol: String,
        /// The program's version
        server: String,
        /// The id in the path
        supervisor_id: String,
        /// Time between heartbeats, in milliseconds
        heartbeat_ms: u64,
    },
    /// What follows is the present; it replaces the client's view.
    #[serde(rename = "subscribed")]
    Subscribed {
        /// You have everything up to here once the snapshot has ended
        seq: u64,
        /// Calls that the snapshot will show
        visible: u64,
    },
    /// One page of the present.
    #[serde(rename = "snapshot")]
    Snapshot {
        /// Calls that match
        calls: Vec<CallSummary>,
    },
    /// The snapshot is complete.
    #[serde(rename = "snapshot_end")]
    SnapshotEnd {
        /// You have everything up to here
        seq: u64,
    },
    /// A call changed.
    #[serde(rename = "call.state_changed")]
    CallStateChanged {
        /// You have everything up to here
        seq: u64,
        /// The call's version
        version: i32,
        /// The PBX's id
        call_id: String,
        /// Where it was
        from: Option<State>,
        /// Where it is
        to: State,
        /// Whether it has come into view or changed within it
        change: ViewChange,
        /// When
        at: DateTime<Utc>,
        /// The call as it is
        call: Box<CallSummary>,
    },
    /// A call no longer matches.
    #[serde(rename = "call.left_view")]
    CallLeftView {
        /// You have everything up to here
        seq: u64,
        /// The PBX's id
        call_id: String,
        /// Why
        reason: String,
    },
    /// We live, and so does (or does not) what we get our news from.
    #[serde(rename = "heartbeat")]
    Heartbeat {
        /// You have everything up to here
        seq: u64,
        /// Our clock
        server_time: DateTime<Utc>,
        /// The state of our own source
        upstream: Upstream,
    },
    /// You read too slowly and missed something: what follows is a new snapshot.
    #[serde(rename = "gap")]
    Gap {
        /// Changes that were not sent
        dropped: u64,
    },
    /// We end; come back, spread out.
    #[serde(rename = "going_away")]
    GoingAway {
        /// When to come back, in milliseconds
        reconnect_after_ms: u64,
    },
    /// Something you asked for cannot be.
    #[serde(rename = "error")]
    Error {
        /// What, for machines
        code: String,
        /// What, for people
        detail: String,
        /// Whether asking again can help
        retryable: bool,
    },
}

impl Frame {
    /// The frame as it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Writes the pages of a snapshot, each a whole [`Frame::Snapshot`].
#[derive(Debug, Default)]
pub struct SnapshotPages {
    page: String,
}

const PAGE_HEAD: &str = r#"{"event_type":"snapshot","calls":["#;
const PAGE_TAIL: &str = "]}";

impl SnapshotPages {
    /// Adds a call; returns the page before it when the call no longer fits there.
    pub fn push(&mut self, call: &CallSummary) -> Option<String> {
        let call = serde_json::to_string(call).unwrap_or_default();
        let is_full = self.page.len() + 1 + call.len() + PAGE_TAIL.len() > SNAPSHOT_PAGE_MAX_BYTES;
        let full = if is_full { self.finish() } else { None };
        self.page.push_str(if self.page.is_empty() { PAGE_HEAD } else { "," });
        self.page.push_str(&call);
        full
    }

    /// The last page, unless there is nothing on it.
    pub fn finish(&mut self) -> Option<String> {
        let mut page = std::mem::take(&mut self.page);
        if page.is_empty() {
            return None;
        }
        page.push_str(PAGE_TAIL);
        Some(page)
    }
}

/// How a call changed in a client's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViewChange {
    /// It was not in view before.
    Enter,
    /// It was.
    Update,
}

/// The state of a notifier's own source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upstream {
    /// Whether news come
    pub status: UpstreamStatus,
    /// Time that the last news took from the change to here, in milliseconds
    pub lag_ms: u64,
    /// The source's own position
    pub seq: u64,
}

/// Whether news come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamStatus {
    /// They come.
    Ok,
    /// They come late.
    Lagging,
    /// They do not: what you see may be old.
    Down,
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{CallSummary, Frame, SNAPSHOT_PAGE_MAX_BYTES, SnapshotPages};
    use crate::domain::{AiStatus, Metadata, State};

    fn call(id: String) -> CallSummary {
        CallSummary {
            call_id: id,
            tenant: "default".to_owned(),
            state: State::Failed,
            ai_status: AiStatus::DeadLettered,
            version: 3,
            attempts: 5,
            next_attempt_at: None,
            metadata: Metadata::default(),
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            completed_at: None,
            archived_at: None,
        }
    }

    #[test]
    fn pages_hold_every_call_once_and_keep_their_limit() {
        let ids: Vec<String> = (0..500).map(|n| format!("call \"{n}\" {}", "x".repeat(n % 200))).collect();
        let mut pages = SnapshotPages::default();
        let mut written: Vec<String> = ids.iter().filter_map(|id| pages.push(&call(id.clone()))).collect();
        written.extend(pages.finish());
        assert!(written.len() > 3 && pages.finish().is_none());
        let mut read = Vec::new();
        for page in written {
            assert!(page.len() <= SNAPSHOT_PAGE_MAX_BYTES);
            match serde_json::from_str(&page).unwrap() {
                Frame::Snapshot { calls } => read.extend(calls.into_iter().map(|call| call.call_id)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, ids);
    }

    #[test]
    fn a_call_larger_than_a_page_has_one_to_itself() {
        let mut pages = SnapshotPages::default();
        assert!(pages.push(&call("small".to_owned())).is_none());
        assert!(pages.push(&call("x".repeat(SNAPSHOT_PAGE_MAX_BYTES))).is_some());
        assert!(pages.push(&call("small".to_owned())).is_some_and(|page| page.len() > SNAPSHOT_PAGE_MAX_BYTES));
    }
}
