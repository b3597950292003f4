//! Jobs in: as many as there is room for, each to be acknowledged by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, Subject};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::connect::Broker;
use super::pull::{Arrival, Ask, Pull, PullError, SEND_TIMEOUT};
use super::topology::{self, TopologyError};
use crate::domain::Lane;
use crate::wire::job::Job;

/// The version of [`Job`] that is understood.
const JOB_VERSION: u8 = 1;
/// Characters of a reason to terminate that the server is sent.
const REASON_MAX_CHARS: usize = 200;

/// Why there are no jobs now. Log it, wait with jitter, pull again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The pull failed or ended early.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The consumer was gone and could not be created again.
    #[error("the consumer is gone and could not be created again: {0}")]
    Topology(#[from] TopologyError),
}

/// The jobs of one lane. A clone is the same consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    broker: Broker,
    lane: Lane,
    stream: String,
    /// The last pull found it gone: it is looked for, and made again, before the next.
    gone: Arc<AtomicBool>,
}

impl Broker {
    /// The jobs of `lane`.
    #[must_use]
    pub fn consumer(&self, lane: Lane) -> Consumer {
        let stream = self.inner().prefix.stream("CALL_WORK");
        Consumer { broker: self.clone(), lane, stream, gone: Arc::new(AtomicBool::new(false)) }
    }
}

impl Consumer {
    /// Its lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        self.broker.connected().await;
    }

    pub(super) const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// `<stream>.<consumer>`, as in the server's requests.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.stream, self.lane)
    }

    /// Asks for `max` jobs at most and for `expires` at most. Those that wait come at once, others
    /// as they are queued.
    ///
    /// # Errors
    /// When there is no connection, or the consumer is gone and cannot be made again.
    pub async fn pull(&self, max: usize, expires: Duration) -> Result<Deliveries, ConsumeError> {
        if self.gone.load(Ordering::Acquire) {
            topology::ensure(&self.broker).await?;
            self.gone.store(false, Ordering::Release);
        }
        let ask = Ask { max, expires, heartbeat: Duration::ZERO };
        let pull = Pull::start(&self.broker, &self.stream, self.lane.as_str(), ask).await?;
        Ok(Deliveries { pull, broker: self.broker.clone(), gone: Arc::clone(&self.gone) })
    }
}

/// The jobs of one pull, as they come. Dropping it takes the request back.
#[derive(Debug)]
pub struct Deliveries {
    pull: Pull,
    broker: Broker,
    gone: Arc<AtomicBool>,
}

impl Deliveries {
    /// The next job; none when all that were asked for have come, or the time is over. Safe to drop
    /// and call again.
    ///
    /// # Errors
    /// When the connection breaks or the consumer goes. Pull again.
    pub async fn next(&mut self) -> Result<Option<Delivery>, ConsumeError> {
        loop {
            match self.pull.next().await {
                Ok(Some(Arrival::Message(message))) => return Ok(Some(self.delivery(message))),
                Ok(Some(Arrival::Heartbeat { .. })) => {}
                Ok(None) => return Ok(None),
                Err(error) => {
                    // A silent server may have lost it too: a store that was wiped under a running
                    // server says nothing.
                    if matches!(error, PullError::Gone(_) | PullError::Silent) {
                        self.gone.store(true, Ordering::Release);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    fn delivery(&self, message: async_nats::Message) -> Delivery {
        let inner = self.broker.inner();
        let message = jetstream::Message { message, context: inner.jetstream.clone() };
        let (deliveries, sequence, published_at) = message.info().map_or((1, 0, None), |info| {
            (info.delivered, info.stream_sequence, instant(info.published.unix_timestamp_nanos()))
        });
        metrics::counter!("callfleet_broker_delivered_total", "again" => if deliveries > 1 { "yes" } else { "no" })
            .increment(1);
        Delivery {
            job: read(&message.payload),
            deliveries,
            sequence,
            published_at,
            client: inner.client.clone(),
            reply: message.message.reply,
        }
    }
}

pub(super) fn instant(nanoseconds: i128) -> Option<DateTime<Utc>> {
    i64::try_from(nanoseconds).ok().map(DateTime::from_timestamp_nanos)
}

/// A message that is no job, to be terminated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a job: {0}")]
pub struct Unreadable(String);

fn read(payload: &[u8]) -> Result<Job, Unreadable> {
    let job: Job = serde_json::from_slice(payload).map_err(|error| Unreadable(error.to_string()))?;
    if job.v == JOB_VERSION { Ok(job) } else { Err(Unreadable(format!("version {} is not understood", job.v))) }
}

/// A job in hand. It comes again after `ack_wait`, unless one of the methods says otherwise.
#[derive(Debug)]
pub struct Delivery {
    /// The job, or why it cannot be read.
    pub job: Result<Job, Unreadable>,
    /// How often it was delivered, this time included.
    pub deliveries: i64,
    /// Its place in the stream.
    pub sequence: u64,
    /// When the stream took it.
    pub published_at: Option<DateTime<Utc>>,
    client: Client,
    reply: Option<Subject>,
}

impl Delivery {
    /// The job is done with: it does not come again. Sent, not confirmed; when it is lost, the job
    /// comes again and finds its work done.
    ///
    /// # Errors
    /// When there is no connection for some seconds.
    pub async fn ack(&self) -> Result<(), PullError> {
        self.say(AckKind::Ack.into()).await
    }

    /// As [`Delivery::ack`], and waits until the server has taken it: afterwards the call's subject
    /// is free for its next job.
    ///
    /// # Errors
    /// When the server does not confirm in time.
    pub async fn ack_confirmed(&self) -> Result<(), PullError> {
        let reply = self.reply.clone().ok_or_else(no_reply)?;
        let asked = self.client.request(reply, AckKind::Ack.into()).await;
        asked.map(drop).map_err(|error| PullError::Ended(error.to_string()))
    }

    /// The job comes again after `delay`, and its subject stays taken until then.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn retry_after(&self, delay: Duration) -> Result<(), PullError> {
        self.say(AckKind::Nak(Some(delay)).into()).await
    }

    /// The job is still being worked on: `ack_wait` starts anew.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn progress(&self) -> Result<(), PullError> {
        self.say(AckKind::Progress.into()).await
    }

    /// The message is of no use: it does not come again, and the server's advisory says why.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn terminate(&self, reason: &str) -> Result<(), PullError> {
        // The library's own kind carries no reason.
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX_CHARS).collect();
        self.say(format!("+TERM {reason}").into()).await
    }

    async fn say(&self, word: Bytes) -> Result<(), PullError> {
        let reply = self.reply.clone().ok_or_else(no_reply)?;
        match tokio::time::timeout(SEND_TIMEOUT, self.client.publish(reply, word)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(PullError::Disconnected),
        }
    }
}

fn no_reply() -> PullError {
    PullError::Ended("the message has no reply subject".to_owned())
}
