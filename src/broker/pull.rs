//! One request for messages, and what it brings.
//!
//! The client library's own streams either fetch ahead with the acknowledgement clock running, or
//! hang on a heartbeat; this asks for as many as there is room for, says when the server falls
//! silent or the connection breaks, and never waits for ever.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{Broker, Link, SUBSCRIPTION_CAPACITY};

/// Time beyond a request's own end before the server counts as silent.
const GRACE: Duration = Duration::from_secs(2);
/// Heartbeats that may be missed before the server counts as silent.
const HEARTBEATS_MISSED: u32 = 3;
/// Time for a message's way out, which is longer only while the client is reconnecting.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// The server's words for a consumer that is gone, or goes.
const GONE: &[&str] = &["Consumer Deleted", "Stream Deleted"];

/// Why a pull ended early. The next one may do better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// There is no connection now, or it broke under way.
    #[error("not connected to NATS")]
    Disconnected,
    /// The consumer, or its stream, is not there.
    #[error("the consumer is gone: {0}")]
    Gone(String),
    /// The server said nothing for longer than it may.
    #[error("JetStream fell silent")]
    Silent,
    /// The server ended it.
    #[error("JetStream ended the pull: {0}")]
    Ended(String),
}

/// How much to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) max: usize,
    pub(super) expires: Duration,
    /// How often the server is to say that it lives; zero for never.
    pub(super) heartbeat: Duration,
}

/// What a pull brings.
#[derive(Debug)]
pub(super) enum Arrival {
    Message(Message),
    /// The server lives and has sent so many messages of this consumer.
    Heartbeat {
        delivered: Option<u64>,
    },
}

/// A pull under way.
#[derive(Debug)]
pub(super) struct Pull {
    subscriber: Subscriber,
    link: watch::Receiver<Link>,
    epoch: u64,
    remaining: usize,
    heartbeat: Duration,
    silent_at: Instant,
}

/// The request, in the server's words; times in nanoseconds.
#[derive(Serialize)]
struct Request {
    batch: usize,
    expires: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_heartbeat: Option<u128>,
}

impl Pull {
    /// Asks `stream`'s `consumer` for messages.
    pub(super) async fn start(broker: &Broker, stream: &str, consumer: &str, ask: Ask) -> Result<Self, PullError> {
        if !broker.is_connected() {
            return Err(PullError::Disconnected);
        }
        let link = broker.link();
        let epoch = link.borrow().epoch;
        let max = ask.max.clamp(1, SUBSCRIPTION_CAPACITY / 2);
        let idle_heartbeat = (!ask.heartbeat.is_zero()).then_some(ask.heartbeat.as_nanos());
        let body = Request { batch: max, expires: ask.expires.as_nanos(), idle_heartbeat };
        let body = serde_json::to_vec(&body).map_err(|error| PullError::Ended(error.to_string()))?;
        let client = &broker.inner().client;
        let asked = async {
            let inbox = client.new_inbox();
            let subscriber = client.subscribe(inbox.clone()).await.map_err(|_| PullError::Disconnected)?;
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
            let sent = client.publish_with_reply(subject, inbox, Bytes::from(body)).await;
            sent.map_err(|_| PullError::Disconnected)?;
            Ok(subscriber)
        };
        let subscriber = tokio::time::timeout(SEND_TIMEOUT, asked).await.map_err(|_| PullError::Disconnected)??;
        let patience = if ask.heartbeat.is_zero() { ask.expires + GRACE } else { ask.heartbeat * HEARTBEATS_MISSED };
        let silent_at = Instant::now() + patience;
        Ok(Self { subscriber, link, epoch, remaining: max, heartbeat: ask.heartbeat, silent_at })
    }

    /// What comes next; none when all that was asked for has come, or the time is over. Safe to drop
    /// and call again.
    pub(super) async fn next(&mut self) -> Result<Option<Arrival>, PullError> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let epoch = self.epoch;
        let message = tokio::select! {
            biased;
            message = self.subscriber.next() => message.ok_or(PullError::Disconnected)?,
            _ = self.link.wait_for(|link| !link.up || link.epoch != epoch) => return Err(PullError::Disconnected),
            () = tokio::time::sleep_until(self.silent_at) => return Err(PullError::Silent),
        };
        if !self.heartbeat.is_zero() {
            self.silent_at = Instant::now() + self.heartbeat * HEARTBEATS_MISSED;
        }
        let arrival = arrival(message);
        match &arrival {
            Ok(Some(Arrival::Message(_))) => self.remaining -= 1,
            Ok(Some(Arrival::Heartbeat { .. })) => {}
            Ok(None) | Err(_) => self.remaining = 0,
        }
        arrival
    }
}

/// Tells a message from the server's words about the pull itself.
fn arrival(message: Message) -> Result<Option<Arrival>, PullError> {
    let words = || message.description.clone().unwrap_or_default();
    match message.status {
        None | Some(StatusCode::OK) => Ok(Some(Arrival::Message(message))),
        Some(StatusCode::IDLE_HEARTBEAT) => {
            let delivered = message.headers.as_ref().and_then(|headers| headers.get("Nats-Last-Consumer"));
            Ok(Some(Arrival::Heartbeat { delivered: delivered.and_then(|number| number.as_str().parse().ok()) }))
        }
        Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => Ok(None),
        Some(StatusCode::NO_RESPONDERS) => Err(PullError::Gone("nobody answers for it".to_owned())),
        Some(_) if GONE.contains(&words().as_str()) => Err(PullError::Gone(words())),
        Some(status) => Err(PullError::Ended(format!("{status} {}", words()))),
    }
}
