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
