//! The answers of the doors that take packets.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to one packet, 202: it is durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The call's id, as it was understood
    pub call_id: String,
    /// The packet's sequence, as it was understood
    pub sequence: i64,
    /// Whether it was new
    pub status: Stored,
    /// Where it is durable
    #[serde(default)]
    pub durability: Durability,
    /// The call was over when it came: it is stored and shown, and the transcript may lack it
    pub late: bool,
    /// When it was taken in
    pub received_at: DateTime<Utc>,
    /// Time from the packet's arrival to this answer, in milliseconds
    pub response_time_ms: f64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// It is stored.
    Accepted,
    /// Its sequence was there before; the first copy stays.
    Duplicate,
}

/// Where something is durable that was answered 202.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In PostgreSQL.
    #[default]
    Stored,
    /// In JetStream, because PostgreSQL does not answer: stored when it does. Whether it is new, and
    /// whether its call is over, is not known yet.
    Spooled,
}

/// The answer to a batch, 202: what is counted here is durable, what is rejected never will be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchReceipt {
    /// Packets that were new
    pub accepted: usize,
    /// Packets whose sequence was there before
    pub duplicates: usize,
    /// `spooled` when any of them is
    #[serde(default)]
    pub durability: Durability,
    /// Packets that were not taken, and why
    pub rejected: Vec<Rejected>,
}

/// A packet of a batch that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// Its place in the batch, from 0
    pub index: usize,
    /// Why, for machines: as in the problems of single packets
    pub code: String,
    /// Why, for people
    pub detail: String,
}

/// `POST /v1/calls/{call_id}/end`; all fields may be left out, and so may the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct EndBody {
    /// Why the call ended
    #[serde(default)]
    pub reason: Option<String>,
    /// The last sequence there is
    #[serde(default)]
    #[schema(example = 42)]
    pub final_sequence: Option<i64>,
}

/// The answer to an end signal, 202.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndReceipt {
    /// The call's id
    pub call_id: String,
    /// Where the call is now; null while that is not known
    pub state: Option<crate::domain::State>,
    /// Where the signal is durable
    #[serde(default)]
    pub durability: Durability,
}
