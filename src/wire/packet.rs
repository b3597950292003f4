//! A packet as a PBX sends it, read without copies and judged field by field.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::Metadata;

/// Bytes in the longest value of `queue`, `direction`, `from`, `to` and `agent`.
pub const METADATA_MAX_BYTES: usize = 255;
/// Tags that a call may carry.
pub const TAGS_MAX: usize = 32;
/// Bytes in the longest name or value of a tag.
pub const TAG_MAX_BYTES: usize = 256;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// JSON, but a field is not what it should be.
    #[error("{field}: {detail}")]
    Field {
        /// The field at fault.
        field: &'static str,
        /// What it should be.
        detail: String,
    },
}

fn bad(field: &'static str, detail: impl Into<String>) -> BodyError {
    BodyError::Field { field, detail: detail.into() }
}

/// A packet after reading.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketBody {
    /// The call's id, in batches.
    pub call_id: Option<String>,
    /// Its place in the call.
    pub sequence: i64,
    /// Its text.
    pub data: String,
    /// The sender's timestamp.
    pub timestamp: Option<DateTime<Utc>>,
    /// Whether it carries the end signal.
    pub is_end: bool,
    /// The last sequence there is, when the sender says so.
    pub final_sequence: Option<i64>,
    /// What it says of the call.
    pub metadata: Metadata,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    call_id: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    final_sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    call: Option<&'a RawValue>,
}

/// `POST /v1/call/stream/{call_id}`; one line or element of `POST /v1/calls/packets`, with `call_id`.
#[derive(ToSchema)]
#[schema(as = PacketBody)]
#[expect(dead_code, reason = "read by the documentation alone; `parse` is what reads bodies")]
pub struct PacketSchema {
    /// The call's id, in batches only
    #[schema(example = "f81d4fae-7dec@pbx.example")]
    call_id: Option<String>,
    /// The packet's place in the call, from 0 or 1; also as a numeric string
    #[schema(example = 1)]
    sequence: i64,
    /// The text that the AI service is asked about; may be left out of an end packet
    #[schema(example = "Hello, I would like to")]
    data: String,
    /// Seconds since 1970 or RFC 3339
    #[schema(example = 1_738_411_815.123)]
    timestamp: Option<f64>,
    /// `end` on the last packet
    #[schema(example = "end")]
    event: Option<String>,
    /// The last sequence there is, beside `event`
    final_sequence: Option<i64>,
    /// What the PBX says of the call
    call: Option<Metadata>,
}

/// Reads one packet.
///
/// # Errors
/// When it is not JSON, or names the first field that is not what it should be.
pub fn parse(body: &[u8]) -> Result<PacketBody, BodyError> {
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|error| unreadable(&error, body))?;
    let is_end = match fields.event.map(text) {
        None => false,
        Some(Some(event)) if event == "end" => true,
        Some(_) => return Err(bad("event", "the only event is `end`")),
    };
    let data = match fields.data {
        Some(raw) => text(raw).ok_or_else(|| bad("data", "takes a string"))?,
        None if is_end => String::new(),
        None => return Err(bad("data", "is missing")),
    };
    let sequence = present(fields.sequence).ok_or_else(|| bad("sequence", "is missing"))?;
    Ok(PacketBody {
        call_id: fields.call_id.map(|raw| text(raw).ok_or_else(|| bad("call_id", "takes a string"))).transpose()?,
        sequence: count("sequence", sequence)?,
        data,
        timestamp: present(fields.timestamp).map(timestamp).transpose()?,
        is_end,
        final_sequence: present(fields.final_sequence).map(|raw| count("final_sequence", raw)).transpose()?,
        metadata: present(fields.call).map(metadata).transpose()?.unwrap_or_default(),
    })
}

/// Reads the optional body of an end signal: its reason and final sequence.
///
/// # Errors
/// As [`parse`].
pub fn parse_end(body: &[u8]) -> Result<(Option<String>, Option<i64>), BodyError> {
    #[derive(Deserialize)]
    struct End<'a> {
        #[serde(borrow)]
        reason: Option<&'a RawValue>,
        #[serde(borrow)]
        final_sequence: Option<&'a RawValue>,
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok((None, None));
    }
    let end: End<'_> = serde_json::from_slice(body).map_err(|error| unreadable(&error, body))?;
    let reason = present(end.reason).map(|raw| short("reason", raw)).transpose()?;
    let last = present(end.final_sequence).map(|raw| count("final_sequence", raw)).transpose()?;
    Ok((reason, last))
}

fn unreadable(error: &serde_json::Error, body: &[u8]) -> BodyError {
    let is_json = error.is_data() && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    if is_json { bad("body", format!("takes one JSON object: {error}")) } else { BodyError::NotJson(error.to_string()) }
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn count(field: &'static str, raw: &RawValue) -> Result<i64, BodyError> {
    let written = raw.get();
    let digits = written.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(written);
    let is_count = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits
        .parse()
        .ok()
        .filter(|n| is_count && *n < i64::MAX)
        .ok_or_else(|| bad(field, "takes an integer from 0 up, as a number or a numeric string"))
}

fn timestamp(raw: &RawValue) -> Result<DateTime<Utc>, BodyError> {
    let refused = || bad("timestamp", "takes seconds since 1970 or an RFC 3339 time");
    let written = raw.get();
    let time = if let Some(string) = written.starts_with('"').then(|| text(raw)).flatten() {
        match DateTime::parse_from_rfc3339(&string) {
            Ok(time) => time.with_timezone(&Utc),
            Err(_) => from_seconds(string.parse().map_err(|_| refused())?).ok_or_else(refused)?,
        }
    } else {
        from_seconds(written.parse().map_err(|_| refused())?).ok_or_else(refused)?
    };
    // The years that a row can hold.
    (-4000..=200_000).contains(&chrono::Datelike::year(&time)).then_some(time).ok_or_else(refused)
}

fn from_seconds(seconds: f64) -> Option<DateTime<Utc>> {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and the range is checked next")]
    let micros = (seconds * 1e6).round() as i64;
    DateTime::from_timestamp_micros(micros).filter(|_| seconds.is_finite() && seconds.abs() < 9.2e12)
}

fn metadata(raw: &RawValue) -> Result<Metadata, BodyError> {
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| bad("call", "takes an object"))?;
    let field =
        |name: &'static str, key: &str| present(fields.get(key).copied()).map(|raw| short(name, raw)).transpose();
    Ok(Metadata {
        queue: field("call.queue", "queue")?,
        direction: field("call.direction", "direction")?,
        from: field("call.from", "from")?,
        to: field("call.to", "to")?,
        agent: field("call.agent", "agent")?,
        tags: present(fields.get("tags").copied()).map(tags).transpose()?.unwrap_or_default(),
    })
}

fn tags(raw: &RawValue) -> Result<BTreeMap<String, String>, BodyError> {
    let tags: BTreeMap<String, &RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| bad("call.tags", "takes an object of strings"))?;
    if tags.len() > TAGS_MAX {
        return Err(bad("call.tags", format!("has {} tags: it takes {TAGS_MAX} at most", tags.len())));
    }
    tags.into_iter()
        .map(|(name, raw)| {
            let value = scalar(raw).ok_or_else(|| bad("call.tags", "takes strings, numbers and booleans as values"))?;
            if name.len() > TAG_MAX_BYTES || value.len() > TAG_MAX_BYTES {
                return Err(bad("call.tags", format!("has a name or value over {TAG_MAX_BYTES} bytes")));
            }
            if name.contains('\0') || value.contains('\0') {
                return Err(bad("call.tags", "holds U+0000"));
            }
            Ok((name, value))
        })
        .collect()
}

fn short(field: &'static str, raw: &RawValue) -> Result<String, BodyError> {
    let value = scalar(raw).ok_or_else(|| bad(field, "takes a string"))?;
    if value.len() > METADATA_MAX_BYTES {
        return Err(bad(field, format!("has {} bytes: it takes {METADATA_MAX_BYTES} at most", value.len())));
    }
    if value.contains('\0') {
        return Err(bad(field, "holds U+0000"));
    }
    Ok(value)
}

/// A string, or a number or boolean as it was written: phone numbers come as either.
fn scalar(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first() {
        Some(b'"') => text(raw),
        Some(b'{' | b'[' | b'n') | None => None,
        Some(_) => Some(raw.get().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyError, parse};

    fn field_at_fault(body: &str) -> &'static str {
        match parse(body.as_bytes()) {
            Err(BodyError::Field { field, .. }) => field,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn the_documented_packet_is_read() {
        let body = parse(
            br#"{"sequence":"7","data":"a\u0000b","timestamp":1738411815.123,"event":"end","final_sequence":7,
            "call":{"queue":"sales","from":4930123,"tags":{"vip":true}},"more":[1]}"#,
        )
        .unwrap();
        assert_eq!((body.sequence, body.data.as_str(), body.is_end, body.final_sequence), (7, "a\0b", true, Some(7)));
        assert_eq!(body.timestamp.unwrap().timestamp_millis(), 1_738_411_815_123);
        assert_eq!(body.metadata.from.as_deref(), Some("4930123"));
        assert_eq!(body.metadata.tags["vip"], "true");
        let rfc = parse(br#"{"sequence":0,"data":"","timestamp":"2025-02-01T12:10:15.123Z"}"#).unwrap();
        assert_eq!(rfc.timestamp, body.timestamp);
    }

    #[test]
    fn a_field_that_is_not_what_it_should_be_is_named() {
        for (body, field) in [
            (r#"{"data":"x"}"#, "sequence"),
            (r#"{"sequence":null,"data":"x"}"#, "sequence"),
            (r#"{"sequence":-1,"data":"x"}"#, "sequence"),
            (r#"{"sequence":1.5,"data":"x"}"#, "sequence"),
            (r#"{"sequence":true,"data":"x"}"#, "sequence"),
            (r#"{"sequence":"+1","data":"x"}"#, "sequence"),
            (r#"{"sequence":9223372036854775807,"data":"x"}"#, "sequence"),
            (r#"{"sequence":1}"#, "data"),
            (r#"{"sequence":1,"data":7}"#, "data"),
            (r#"{"sequence":1,"data":"x","timestamp":"yesterday"}"#, "timestamp"),
            (r#"{"sequence":1,"data":"x","timestamp":1e300}"#, "timestamp"),
            (r#"{"sequence":1,"data":"x","event":"start"}"#, "event"),
            (r#"{"sequence":1,"data":"x","call":[]}"#, "call"),
            (r#"{"sequence":1,"data":"x","call":{"queue":{}}}"#, "call.queue"),
            (r#"{"sequence":1,"data":"x","call":{"tags":{"a":[]}}}"#, "call.tags"),
            ("[]", "body"),
            ("7", "body"),
        ] {
            assert_eq!(field_at_fault(body), field, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for body in [&b"{"[..], b"", b"\xff", b"{\"sequence\":1,\"data\":\"x\"} x", b"nope"] {
            assert!(matches!(parse(body), Err(BodyError::NotJson(_))), "{body:?}");
        }
    }
}
