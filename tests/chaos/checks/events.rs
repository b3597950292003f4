//! What was announced against what is so: every message of the state stream is a line of a timeline.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::types::Uuid;

use crate::findings::{Finding, Sort};
use crate::jetstream::{STATE, Stream, stream};
use crate::stack::Stack;

/// Messages read at a time, and timelines looked up at a time.
const PAGE: usize = 500;

/// How far the stream has been read, and which stream that was.
#[derive(Default)]
pub(crate) struct Announced {
    created: String,
    next: u64,
}

/// An announcement, as far as it is compared.
#[derive(Debug, Deserialize)]
struct Event {
    from: Option<String>,
    to: String,
    at: DateTime<Utc>,
    actor: String,
    call: EventCall,
}

#[derive(Debug, Deserialize)]
struct EventCall {
    call_id: String,
    version: i32,
    ai_status: String,
}

#[derive(sqlx::FromRow)]
struct Line {
    call_key: Uuid,
    version: i32,
    from_state: Option<String>,
    to_state: String,
    ai_status: String,
    at: DateTime<Utc>,
    actor: String,
}

pub(super) async fn check(stack: &Stack, announced: &mut Announced) -> anyhow::Result<Option<Finding>> {
    let found = stream(stack.nats.client(), STATE).await?.context("the state stream is missing")?;
    if found.created != announced.created {
        *announced = Announced { created: found.created.clone(), next: found.first.max(1) };
    }
    let events = read(stack, announced, &found).await?;
    let mut wrong = Vec::new();
    for page in events.chunks(PAGE) {
        let lines = timelines(stack.pool(), page).await?;
        wrong.extend(page.iter().filter_map(|(key, event)| difference(event, lines.get(&(*key, event.call.version)))));
    }
    Ok(Finding::of(Sort::Broken, "changes announced that are not so", &wrong))
}

/// Every message from where the last look ended to the end.
async fn read(stack: &Stack, announced: &mut Announced, found: &Stream) -> anyhow::Result<Vec<(Uuid, Event)>> {
    let mut events = Vec::new();
    if announced.next > found.last {
        return Ok(events);
    }
    let context = jetstream::new(stack.nats.client().clone());
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: announced.next },
        ack_policy: AckPolicy::None,
        inactive_threshold: Duration::from_secs(30),
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = context.create_consumer_on_stream(config, STATE).await.context("no look at the state stream")?;
    while announced.next <= found.last {
        let page = consumer.batch().max_messages(PAGE).expires(Duration::from_secs(2)).messages().await;
        let mut page = page.context("no look at the state stream")?;
        let before = announced.next;
        while let Some(message) = page.next().await {
            let message = message.map_err(|error| anyhow::anyhow!(error)).context("the state stream broke off")?;
            let info = message.info().map_err(|error| anyhow::anyhow!(error))?;
            announced.next = info.stream_sequence + 1;
            let key = message.subject.rsplit('.').next().and_then(|token| Uuid::parse_str(token).ok());
            let event = serde_json::from_slice(&message.payload);
            let (Some(key), Ok(event)) = (key, event) else {
                anyhow::bail!("a message on {} is no announcement", message.subject)
            };
            events.push((key, event));
        }
        anyhow::ensure!(announced.next > before, "the state stream ends at {before}, before {}", found.last);
    }
    Ok(events)
}

async fn timelines(pool: &PgPool, events: &[(Uuid, Event)]) -> anyhow::Result<HashMap<(Uuid, i32), Line>> {
    let keys: Vec<Uuid> = events.iter().map(|(key, _)| *key).collect();
    let lines: Vec<Line> = sqlx::query_as(
        "SELECT call_key, version, from_state, to_state, ai_status, at, actor FROM transitions WHERE call_key = ANY($1)",
    )
    .bind(keys)
    .fetch_all(pool)
    .await?;
    Ok(lines.into_iter().map(|line| ((line.call_key, line.version), line)).collect())
}

fn difference(event: &Event, line: Option<&Line>) -> Option<String> {
    let Event { from, to, at, actor, call } = event;
    let said = format!("{} version {}: {to} {} by {actor} at {at}", call.call_id, call.version, call.ai_status);
    let Some(line) = line else { return Some(format!("{said}, which never was")) };
    // The database keeps microseconds.
    let same_time = (*at - line.at).num_microseconds().is_some_and(|apart| apart.abs() <= 1);
    let same = (from, to, &call.ai_status, actor) == (&line.from_state, &line.to_state, &line.ai_status, &line.actor);
    (!same || !same_time)
        .then(|| format!("{said}, but it was {} {} by {} at {}", line.to_state, line.ai_status, line.actor, line.at))
}
