//! The spool's messages: how many wait, and those that are taken out.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, Subject};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::api::{self, ApiError};
use super::connect::Broker;
use super::consume::{ConsumeError, instant};
use super::pull::{Arrival, Ask, Pull, PullError, SEND_TIMEOUT};
use super::topology;

const STREAM: &str = "CALL_SPOOL";
const CONSUMER: &str = "drain";

/// What the spool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// Messages that were not taken out for good.
    pub messages: u64,
    /// When the oldest of them came, on the server's clock.
    pub oldest: Option<DateTime<Utc>>,
}

/// A message of the spool, in hand. It comes again after `ack_wait`, unless one of the methods says
/// otherwise.
#[derive(Debug)]
pub struct SpoolMessage {
    /// Its body.
    pub payload: Bytes,
    /// When the stream took it.
    pub published_at: Option<DateTime<Utc>>,
    client: Client,
    reply: Option<Subject>,
}

impl Broker {
    /// What the spool holds now; nothing when there is none.
    ///
    /// # Errors
    /// When JetStream is away or refuses.
    pub async fn spool_state(&self) -> Result<SpoolState, ApiError> {
        let request = format!("STREAM.INFO.{}", self.inner().prefix.stream(STREAM));
        let info = match api::ask(self, &request, &json!({})).await {
            Err(error) if error.is_missing() => return Ok(SpoolState::default()),
            other => other?,
        };
        let messages = info.pointer("/state/messages").and_then(Value::as_u64);
        let messages = messages.ok_or_else(|| ApiError::unreadable(&request, "state"))?;
        let oldest = info.pointer("/state/first_ts").and_then(Value::as_str);
        let oldest = oldest.and_then(|time| time.parse().ok()).filter(|_| messages > 0);
        Ok(SpoolState { messages, oldest })
    }

    /// The next message of the spool, waiting for one as long as `expires`.
    ///
    /// # Errors
    /// When there is no connection, or the consumer is gone and cannot be made again.
    pub async fn next_spooled(&self, expires: Duration) -> Result<Option<SpoolMessage>, ConsumeError> {
        let stream = self.inner().prefix.stream(STREAM);
        let ask = Ask { max: 1, expires, heartbeat: Duration::ZERO };
        let mut pull = Pull::start(self, &stream, CONSUMER, ask).await?;
        loop {
            match pull.next().await {
                Ok(Some(Arrival::Message(message))) => return Ok(Some(self.spooled(message))),
                Ok(Some(Arrival::Heartbeat { .. })) => {}
                Ok(None) => return Ok(None),
                Err(error @ (PullError::Gone(_) | PullError::Silent)) => {
                    topology::ensure(self).await?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn spooled(&self, message: async_nats::Message) -> SpoolMessage {
        let message = jetstream::Message { message, context: self.inner().jetstream.clone() };
        let published_at = message.info().ok().and_then(|info| instant(info.published.unix_timestamp_nanos()));
        let async_nats::Message { payload, reply, .. } = message.message;
        SpoolMessage { payload, published_at, client: self.inner().client.clone(), reply }
    }
}

impl SpoolMessage {
    /// Everything in it is stored: it is deleted, and this waits until it is.
    ///
    /// # Errors
    /// When the server does not confirm in time: then it comes again, and finds its work done.
    pub async fn done(&self) -> Result<(), PullError> {
        let asked = self.client.request(self.reply()?, AckKind::Ack.into()).await;
        asked.map(drop).map_err(|error| PullError::Ended(error.to_string()))
    }

    /// It comes again after `delay`, to any ingest.
    ///
    /// # Errors
    /// When there is no connection for some seconds.
    pub async fn again_after(&self, delay: Duration) -> Result<(), PullError> {
        let nak = AckKind::Nak(Some(delay)).into();
        match tokio::time::timeout(SEND_TIMEOUT, self.client.publish(self.reply()?, nak)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(PullError::Disconnected),
        }
    }

    fn reply(&self) -> Result<Subject, PullError> {
        self.reply.clone().ok_or_else(|| PullError::Ended("the message has no reply subject".to_owned()))
    }
}
