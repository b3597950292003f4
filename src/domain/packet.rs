//! One packet of a call, as it was let in.

use chrono::{DateTime, Utc};

use super::{CallKey, Metadata};

/// A packet that passed the door: its call is known by key, its limits were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Whose packet it is.
    pub key: CallKey,
    /// Its place in the call, from 0.
    pub sequence: i64,
    /// The text that the AI service is asked about.
    pub data: Vec<u8>,
    /// The sender's timestamp, never trusted.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it was taken in, to the microsecond: with call and sequence, the name of this very copy,
    /// by which it is known again when it comes a second time on our own ways.
    pub received_at: DateTime<Utc>,
    /// Whether it carries the end signal, and the last sequence there is, when the sender said so.
    pub end: Option<Option<i64>>,
    /// What it says of the call.
    pub metadata: Metadata,
}
