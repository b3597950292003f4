//! The topology as it should be: `nats/topology.json` with an environment's prefix and settings.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::broker::connect::Broker;
use crate::service::duration;

/// Every option of every stream and consumer.
const TOPOLOGY: &str = include_str!("../../../nats/topology.json");
/// Settings that the file gives as people write them and the server takes in nanoseconds.
const DURATIONS: &[&str] = &["max_age", "duplicate_window", "ack_wait", "inactive_threshold"];

/// One stream or consumer, as the server is to be asked for it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) kind: Kind,
    /// The stream's full name.
    pub(super) stream: String,
    /// The consumer's name; the stream's for a stream.
    pub(super) name: String,
    /// The settings, in the server's own words.
    pub(super) wanted: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Consumer,
}

/// Why the file in the program cannot be used: a fault of the build, which a test excludes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("nats/topology.json: {0}")]
pub struct BadPlan(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    streams: Vec<Map<String, Value>>,
    consumers: Vec<FileConsumer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileConsumer {
    stream_name: String,
    config: Map<String, Value>,
}

/// The streams first, then their consumers.
pub(super) fn objects(broker: &Broker) -> Result<Vec<Object>, BadPlan> {
    let inner = broker.inner();
    let file: File = serde_json::from_str(TOPOLOGY).map_err(|error| BadPlan(error.to_string()))?;
    let mut objects = Vec::new();
    for mut wanted in file.streams {
        let name = inner.prefix.stream(&text(&wanted, "name")?);
        let subjects = wanted.get("subjects").and_then(Value::as_array).into_iter().flatten();
        let subjects: Vec<Value> =
            subjects.filter_map(Value::as_str).map(|subject| inner.prefix.subject(subject).into()).collect();
        wanted.insert("name".to_owned(), name.clone().into());
        wanted.insert("subjects".to_owned(), subjects.into());
        wanted.insert("num_replicas".to_owned(), inner.replicas.into());
        nanoseconds(&mut wanted)?;
        objects.push(Object { kind: Kind::Stream, stream: name.clone(), name, wanted });
    }
    for FileConsumer { stream_name, config: mut wanted } in file.consumers {
        let name = text(&wanted, "name")?;
        let filter = inner.prefix.subject(&text(&wanted, "filter_subject")?);
        wanted.insert("filter_subject".to_owned(), filter.into());
        nanoseconds(&mut wanted)?;
        wanted.insert("ack_wait".to_owned(), in_nanoseconds(inner.ack_wait));
        objects.push(Object { kind: Kind::Consumer, stream: inner.prefix.stream(&stream_name), name, wanted });
    }
    Ok(objects)
}

impl Object {
    /// `stream CALL_WORK`, `consumer CALL_WORK/live`.
    pub(super) fn title(&self) -> String {
        match self.kind {
            Kind::Stream => format!("stream {}", self.stream),
            Kind::Consumer => format!("consumer {}/{}", self.stream, self.name),
        }
    }

    /// Where the server tells what it has of this.
    pub(super) fn info_request(&self) -> String {
        match self.kind {
            Kind::Stream => format!("STREAM.INFO.{}", self.stream),
            Kind::Consumer => format!("CONSUMER.INFO.{}.{}", self.stream, self.name),
        }
    }
}

/// A setting as people read it: durations as `30s`, numbers and words as they are.
pub(super) fn shown(field: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if DURATIONS.contains(&field) => {
            duration::show(Duration::from_nanos(number.as_u64().unwrap_or_default()))
        }
        Value::String(text) => text.clone(),
        Value::Null => "not set".to_owned(),
        other => other.to_string(),
    }
}

fn text(wanted: &Map<String, Value>, field: &str) -> Result<String, BadPlan> {
    wanted.get(field).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| BadPlan(format!("{field} is missing")))
}

fn nanoseconds(wanted: &mut Map<String, Value>) -> Result<(), BadPlan> {
    for (field, value) in wanted.iter_mut().filter(|(field, _)| DURATIONS.contains(&field.as_str())) {
        let text = value.as_str().unwrap_or_default();
        *value = in_nanoseconds(duration::parse(text).map_err(|error| BadPlan(format!("{field}: {error}")))?);
    }
    Ok(())
}

fn in_nanoseconds(duration: Duration) -> Value {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).into()
}
