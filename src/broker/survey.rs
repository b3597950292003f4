//! What JetStream holds, for those who ask: status, audit, and whoever looks at dead letters.

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::{self, ApiError};
use super::connect::Broker;
use crate::domain::Lane;
use crate::wire::subject;

const STREAMS: [&str; 4] = ["CALL_WORK", "CALL_STATE", "CALL_DLQ", "CALL_SPOOL"];
/// Dead letters that are listed at most: over it, the list says so by failing, not by being short.
const MAX_DEAD_LETTERS: usize = 1_000_000;

/// All streams and consumers; what is missing is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// The streams, without the environment's prefix.
    pub streams: Vec<StreamState>,
    /// The consumers of the work stream.
    pub consumers: Vec<ConsumerState>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamState {
    /// Its name, without the environment's prefix.
    pub name: &'static str,
    /// Messages that it holds.
    pub messages: u64,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Bytes that it may hold.
    pub max_bytes: u64,
    /// The newest message it has had.
    pub last_seq: u64,
}

/// One consumer of the work stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerState {
    /// Its lane.
    pub lane: &'static str,
    /// Jobs that were not delivered yet.
    pub pending: u64,
    /// Jobs in the workers' hands, or delayed.
    pub ack_pending: u64,
    /// Of those, the ones that were delivered more than once.
    pub redelivered: u64,
    /// Workers that ask for jobs now.
    pub waiting: u64,
}

impl Survey {
    /// The stream of this name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&StreamState> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}

/// Looks at all streams and consumers.
///
/// # Errors
/// When JetStream is away or refuses.
pub async fn take(broker: &Broker) -> Result<Survey, ApiError> {
    let prefix = &broker.inner().prefix;
    let mut survey = Survey { streams: Vec::new(), consumers: Vec::new() };
    for name in STREAMS {
        let Some(info) = info(broker, format!("STREAM.INFO.{}", prefix.stream(name))).await? else { continue };
        let number = |field: &str| info.pointer(field).and_then(Value::as_u64).unwrap_or_default();
        survey.streams.push(StreamState {
            name,
            messages: number("/state/messages"),
            bytes: number("/state/bytes"),
            max_bytes: number("/config/max_bytes"),
            last_seq: number("/state/last_seq"),
        });
    }
    for lane in Lane::ALL {
        let request = format!("CONSUMER.INFO.{}.{lane}", prefix.stream("CALL_WORK"));
        let Some(info) = info(broker, request).await? else { continue };
        let number = |field: &str| info.get(field).and_then(Value::as_u64).unwrap_or_default();
        survey.consumers.push(ConsumerState {
            lane: lane.as_str(),
            pending: number("num_pending"),
            ack_pending: number("num_ack_pending"),
            redelivered: number("num_redelivered"),
            waiting: number("num_waiting"),
        });
    }
    Ok(survey)
}

/// The subjects of all dead letters, sorted; empty while the stream is missing.
///
/// # Errors
/// When JetStream is away or refuses, or there are more than a million.
pub async fn dead_letter_subjects(broker: &Broker) -> Result<Vec<String>, ApiError> {
    let prefix = &broker.inner().prefix;
    let request = format!("STREAM.INFO.{}", prefix.stream("CALL_DLQ"));
    let mut subjects = Vec::new();
    loop {
        // The server answers with a hundred thousand subjects at a time.
        let page = json!({ "subjects_filter": prefix.subject(subject::DLQ), "offset": subjects.len() });
        let answer = match api::ask(broker, &request, &page).await {
            Err(error) if error.is_missing() => break,
            other => other?,
        };
        let Some(Value::Object(found)) = answer.pointer("/state/subjects") else { break };
        subjects.extend(found.keys().map(|subject| prefix.strip(subject).to_owned()));
        let total = answer.get("total").and_then(Value::as_u64).and_then(|total| usize::try_from(total).ok());
        if subjects.len() > MAX_DEAD_LETTERS {
            let reason = format!("more than {MAX_DEAD_LETTERS} dead letters");
            return Err(ApiError::Other { request, reason });
        }
        if found.is_empty() || total.is_none_or(|total| subjects.len() >= total) {
            break;
        }
    }
    subjects.sort_unstable();
    Ok(subjects)
}

/// The body of the dead letter on `subject`; none if there is none.
///
/// # Errors
/// When JetStream is away or refuses.
pub async fn dead_letter(broker: &Broker, subject: &str) -> Result<Option<Bytes>, ApiError> {
    let subject = broker.inner().prefix.subject(subject);
    match dead_letters(broker).await?.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Ok(Some(message.payload)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(error) if error.code() == 404 => Ok(None),
            _ => Err(ApiError::Other { request: format!("STREAM.MSG.GET of {subject}"), reason: error.to_string() }),
        },
    }
}

/// Deletes the dead letter on `subject`, and says whether there was one.
///
/// # Errors
/// When JetStream is away or refuses.
pub async fn delete_dead_letter(broker: &Broker, subject: &str) -> Result<bool, ApiError> {
    let prefix = &broker.inner().prefix;
    let request = format!("STREAM.PURGE.{}", prefix.stream("CALL_DLQ"));
    match api::ask(broker, &request, &json!({ "filter": prefix.subject(subject) })).await {
        Ok(answer) => Ok(answer.get("purged").and_then(Value::as_u64).unwrap_or_default() > 0),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn dead_letters(broker: &Broker) -> Result<Stream<()>, ApiError> {
    if !broker.is_connected() {
        return Err(ApiError::Disconnected);
    }
    let name = broker.inner().prefix.stream("CALL_DLQ");
    let stream = broker.inner().jetstream.get_stream_no_info(&name).await;
    stream.map_err(|error| ApiError::Other { request: name, reason: error.to_string() })
}

async fn info(broker: &Broker, request: String) -> Result<Option<Value>, ApiError> {
    match api::ask(broker, &request, &json!({})).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}
