//! The message of the spool: what one flush would have stored, whole enough to be stored later by
//! any ingest of any version that knows this one.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::Metadata;

/// The version of [`SpooledBatch`] that is written, and the only one that is understood.
pub const VERSION: u8 = 1;
/// Bytes in the longest message, under what nats-server takes by default (1 MiB with headers).
pub const MESSAGE_MAX_BYTES: usize = 900_000;

/// Entries that were accepted together, on `call.spool.<ingest>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpooledBatch<'a> {
    /// The shape's version
    pub v: u8,
    /// What was accepted
    #[serde(borrow)]
    pub entries: Vec<SpooledEntry<'a>>,
}

/// One thing that was answered 202.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpooledEntry<'a> {
    /// Whose call it is
    #[serde(borrow)]
    pub tenant: Cow<'a, str>,
    /// The PBX's id of the call
    #[serde(borrow)]
    pub call_id: Cow<'a, str>,
    /// When it was taken in: with call and sequence, the name of this very copy
    pub received_at: DateTime<Utc>,
    /// What it brings
    #[serde(flatten, borrow)]
    pub what: Spooled<'a>,
}

/// What an entry brings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Spooled<'a> {
    /// A packet.
    Packet {
        /// Its place in the call
        sequence: i64,
        /// Its text
        #[serde(borrow)]
        data: Cow<'a, str>,
        /// The sender's timestamp
        sent_at: Option<DateTime<Utc>>,
        /// The end signal that it carries
        end: Option<SpooledEnd>,
        /// What it says of the call
        #[serde(default, skip_serializing_if = "Metadata::is_empty")]
        metadata: Cow<'a, Metadata>,
    },
    /// The end signal alone.
    End {
        /// Why, in the sender's words
        #[serde(borrow)]
        reason: Cow<'a, str>,
        /// The last sequence there is
        final_sequence: Option<i64>,
    },
}

/// The end signal of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledEnd {
    /// The last sequence there is, when the sender said so
    pub final_sequence: Option<i64>,
}

/// The messages of `entries`, in their order, each within [`MESSAGE_MAX_BYTES`] (no entry alone is
/// longer: a packet's body is at most 64 KiB, and JSON at most six times its text), with how many
/// entries it holds.
#[must_use]
pub fn messages(entries: &[SpooledEntry<'_>]) -> Vec<(usize, Vec<u8>)> {
    let mut messages: Vec<(usize, Vec<u8>)> = Vec::new();
    for entry in entries {
        let encoded = serde_json::to_vec(entry).unwrap_or_default();
        match messages.last_mut() {
            Some((count, message)) if message.len() + encoded.len() + 3 <= MESSAGE_MAX_BYTES => {
                *count += 1;
                message.push(b',');
                message.extend_from_slice(&encoded);
            }
            _ => {
                let mut message = format!(r#"{{"v":{VERSION},"entries":["#).into_bytes();
                message.extend_from_slice(&encoded);
                messages.push((1, message));
            }
        }
    }
    for (_, message) in &mut messages {
        message.extend_from_slice(b"]}");
    }
    messages
}

/// Reads a message.
///
/// # Errors
/// What is wrong with it, without what it holds.
pub fn read(message: &[u8]) -> Result<SpooledBatch<'_>, String> {
    #[derive(Deserialize)]
    struct Version {
        v: u8,
    }
    // The position only: the text around it may be a caller's words.
    let at = |error: serde_json::Error| format!("no spooled batch (at byte {})", error.column());
    let Version { v } = serde_json::from_slice(message).map_err(at)?;
    if v != VERSION {
        return Err(format!("version {v} is not understood"));
    }
    serde_json::from_slice(message).map_err(at)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use chrono::DateTime;

    use super::{MESSAGE_MAX_BYTES, Spooled, SpooledBatch, SpooledEnd, SpooledEntry, messages, read};
    use crate::domain::Metadata;

    fn packet(sequence: i64, data: &str) -> SpooledEntry<'_> {
        SpooledEntry {
            tenant: Cow::Borrowed("default"),
            call_id: Cow::Borrowed("a/\"b\" \u{1}"),
            received_at: DateTime::from_timestamp_micros(1_738_411_815_123_456).unwrap(),
            what: Spooled::Packet {
                sequence,
                data: Cow::Borrowed(data),
                sent_at: None,
                end: (sequence == 2).then_some(SpooledEnd { final_sequence: None }),
                metadata: Cow::Owned(Metadata { queue: Some("sales".to_owned()), ..Metadata::default() }),
            },
        }
    }

    #[test]
    fn what_was_spooled_is_read_back_as_it_was() {
        let end = Spooled::End { reason: Cow::Borrowed("hangup"), final_sequence: Some(2) };
        let entries = [packet(1, "\0 \u{1f600}"), packet(2, ""), SpooledEntry { what: end, ..packet(3, "") }];
        let written = messages(&entries);
        assert_eq!(written.len(), 1);
        let (count, message) = written.first().unwrap();
        assert_eq!(*count, 3);
        assert_eq!(read(message), Ok(SpooledBatch { v: 1, entries: entries.to_vec() }));
    }

    #[test]
    fn a_large_batch_is_several_messages_within_the_limit() {
        // The worst that a door lets in: every character of it is escaped.
        let worst = "\u{1}".repeat(64 * 1024);
        let entries: Vec<_> = (0..7).map(|sequence| packet(sequence, &worst)).collect();
        let written = messages(&entries);
        assert!(written.iter().all(|(_, message)| message.len() <= MESSAGE_MAX_BYTES));
        let read: Vec<_> = written.iter().flat_map(|(_, message)| read(message).unwrap().entries).collect();
        assert_eq!(read, entries);
    }

    #[test]
    fn what_cannot_be_read_says_where_and_not_what() {
        for message in [&b"secret"[..], br#"{"v":2,"entries":[]}"#, br#"{"v":1,"entries":[{"kind":"secret"}]}"#, b""] {
            let error = read(message).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
