//! What the AI service is asked and what it answers.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{Metadata, Ranges};

/// `POST $AI_URL`.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    /// Names the job; also in `Idempotency-Key`, the same on every attempt.
    pub job_id: &'a str,
    /// The PBX's id of the call.
    pub call_id: &'a str,
    /// Whose call it is.
    pub tenant: &'a str,
    /// What the PBX said of the call: queue, direction, from, to, agent, tags.
    #[serde(flatten)]
    pub metadata: &'a Metadata,
    /// The packets in order of sequence.
    pub packets: Vec<RequestPacket<'a>>,
    /// Sequences that never came, as inclusive ranges.
    pub missing: &'a Ranges,
}

/// One packet of a request.
#[derive(Debug, Serialize)]
pub struct RequestPacket<'a> {
    /// Its place in the call.
    pub sequence: i64,
    /// Its text.
    pub data: std::borrow::Cow<'a, str>,
    /// The sender's timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<chrono::DateTime<chrono::Utc>>,
}

/// The part of the answer that we read; `segments`, `summary`, `sentiment`, `usage` and whatever
/// else there is are kept as they came.
#[derive(Debug, Deserialize)]
pub struct Response {
    /// The transcript.
    pub transcript: String,
}

/// Reads an answer: its transcript, freed of what a row cannot hold, and the whole as it came.
///
/// # Errors
/// Says what cannot be read, and where, but never repeats it: an answer tells what was said in a call.
pub fn read(body: &[u8]) -> Result<(String, String), String> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_eof() { "ends in the middle" } else { "is not JSON" };
        format!("the answer {what} (line {}, column {})", error.line(), error.column())
    })?;
    let response: Response =
        serde_json::from_str(whole.get()).map_err(|_| "the answer has no transcript that is text".to_owned())?;
    Ok((response.transcript.replace('\0', "\u{fffd}"), whole.get().to_owned()))
}
