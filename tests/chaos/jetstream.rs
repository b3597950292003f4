//! Plain questions to JetStream, in the server's own words.

use anyhow::{Context, bail};
use async_nats::Client;
use serde_json::{Map, Value, json};

pub(crate) const WORK: &str = "CALL_WORK";
pub(crate) const STATE: &str = "CALL_STATE";
pub(crate) const DLQ: &str = "CALL_DLQ";
pub(crate) const SPOOL: &str = "CALL_SPOOL";

/// The server's code for a stream that is not there.
const STREAM_NOT_FOUND: u64 = 10_059;
/// Its code for a consumer that is not there.
const CONSUMER_NOT_FOUND: u64 = 10_014;

/// What a stream is now.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) messages: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When it was created: its identity.
    pub(crate) created: String,
    /// The server that leads it, in a cluster.
    pub(crate) leader: Option<String>,
    pub(crate) config: Map<String, Value>,
}

/// The stream of that name, if there is one.
pub(crate) async fn stream(client: &Client, name: &str) -> anyhow::Result<Option<Stream>> {
    let Some(answer) = ask(client, &format!("STREAM.INFO.{name}"), &json!({})).await? else { return Ok(None) };
    let number = |field: &str| answer.pointer(&format!("/state/{field}")).and_then(Value::as_u64);
    let text = |path: &str| answer.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let messages = number("messages").with_context(|| format!("{name} says not how many messages it holds"))?;
    let config = answer.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(Some(Stream {
        messages,
        first: number("first_seq").unwrap_or(0),
        last: number("last_seq").unwrap_or(0),
        created: text("/created").unwrap_or_default(),
        leader: text("/cluster/leader"),
        config,
    }))
}

/// How many messages each subject of a stream holds; nothing when there is no such stream.
pub(crate) async fn subjects(client: &Client, name: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let body = json!({ "subjects_filter": ">" });
    let answer = ask(client, &format!("STREAM.INFO.{name}"), &body).await?.unwrap_or_default();
    let subjects = answer.pointer("/state/subjects").and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(subjects.into_iter().map(|(subject, count)| (subject, count.as_u64().unwrap_or(0))).collect())
}

/// Puts settings of a stream over those it has.
pub(crate) async fn configure(client: &Client, name: &str, settings: &Value) -> anyhow::Result<()> {
    let mut config = stream(client, name).await?.with_context(|| format!("there is no {name}"))?.config;
    config.extend(settings.as_object().cloned().unwrap_or_default());
    demand(client, &format!("STREAM.UPDATE.{name}"), &json!(config)).await
}

pub(crate) async fn delete_stream(client: &Client, name: &str) -> anyhow::Result<()> {
    demand(client, &format!("STREAM.DELETE.{name}"), &json!({})).await
}

/// Deletes a consumer, if it is there.
pub(crate) async fn delete_consumer(client: &Client, stream: &str, name: &str) -> anyhow::Result<()> {
    ask(client, &format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await.map(drop)
}

/// Removes every message of a stream; the stream and what it remembers of names stay.
pub(crate) async fn purge(client: &Client, name: &str) -> anyhow::Result<()> {
    demand(client, &format!("STREAM.PURGE.{name}"), &json!({})).await
}

async fn demand(client: &Client, request: &str, body: &Value) -> anyhow::Result<()> {
    ask(client, request, body).await?.with_context(|| format!("{request}: there is no such thing"))?;
    Ok(())
}

/// The answer; none when what was asked about is not there.
async fn ask(client: &Client, request: &str, body: &Value) -> anyhow::Result<Option<Value>> {
    let asked = client.request(format!("$JS.API.{request}"), body.to_string().into()).await;
    let answer = asked.with_context(|| format!("JetStream does not answer to {request}"))?;
    let answer: Value = serde_json::from_slice(&answer.payload).with_context(|| format!("{request}: no JSON"))?;
    let Some(error) = answer.get("error") else { return Ok(Some(answer)) };
    match error.get("err_code").and_then(Value::as_u64) {
        Some(STREAM_NOT_FOUND | CONSUMER_NOT_FOUND) => Ok(None),
        _ => bail!("JetStream refuses {request}: {error}"),
    }
}
