//! Messages out: many at once, each with its own outcome.

use std::error::Error as _;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::{PublishAckFuture, PublishError as LibraryError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::connect::Broker;
use super::topology;
use crate::wire::outgoing::Outgoing;

/// Messages on their way at a time; more than one call's worth of waiting would gain nothing.
const IN_FLIGHT: usize = 1024;
/// Time for a message's way out; the acknowledgement has its own.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How nats-server 2.12 to 2.15 says that a subject still holds its one message. The code beside it
/// (10077) also stands for a stream that is full.
const SUBJECT_TAKEN: &str = "maximum messages per subject exceeded";
/// The code of a message that could not be stored.
const STORE_FAILED: u64 = 10_077;

/// What became of a message that is safe now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The stream has it.
    Stored,
    /// The stream had it already, under the same name.
    Duplicate,
    /// Its subject still holds an earlier message, which does as well.
    ///
    /// A work subject takes one message at a time: nats-server 2.14.6 refuses the second whether the
    /// first waits, is being worked on or is delayed by a negative acknowledgement, does not
    /// remember the refused one's name, and takes the next at once after an acknowledgement, a
    /// termination or a deletion. `one_message_per_call` probes all of it.
    AlreadyQueued,
}

/// Why a message is not safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection now, or it broke before the acknowledgement.
    #[error("not connected to NATS")]
    Disconnected,
    /// No acknowledgement in time.
    #[error("JetStream did not acknowledge in time")]
    TimedOut,
    /// No stream takes this subject, and creating what is missing did not help.
    #[error("no stream takes {subject}")]
    StreamMissing {
        /// The subject.
        subject: String,
    },
    /// The server said no: the stream is full, or the message too large.
    #[error("JetStream refuses the message: {0}")]
    Refused(String),
}

impl PublishError {
    /// The name in metric labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::TimedOut => "timed_out",
            Self::StreamMissing { .. } => "stream_missing",
            Self::Refused(_) => "refused",
        }
    }
}

impl Broker {
    /// Publishes all of `messages` and waits until each is acknowledged or has failed; outcomes in
    /// the order of messages. A stream that is missing is created, and its messages sent once more.
    pub async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<Published, PublishError>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for some in messages.chunks(IN_FLIGHT) {
            outcomes.extend(self.publish_some(some).await);
        }
        let homeless: Vec<usize> = (outcomes.iter().enumerate())
            .filter(|(_, outcome)| matches!(outcome, Err(PublishError::StreamMissing { .. })))
            .map(|(index, _)| index)
            .collect();
        if !homeless.is_empty() && self.recreate().await {
            let again: Vec<_> = homeless.iter().filter_map(|index| messages.get(*index).cloned()).collect();
            let retried = self.publish_some(&again).await;
            for (index, outcome) in homeless.into_iter().zip(retried) {
                if let Some(slot) = outcomes.get_mut(index) {
                    *slot = outcome;
                }
            }
        }
        outcomes.iter().for_each(count);
        outcomes
    }

    async fn recreate(&self) -> bool {
        match topology::ensure(self).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "a stream is missing and cannot be created");
                false
            }
        }
    }

    async fn publish_some(&self, messages: &[Outgoing]) -> Vec<Result<Published, PublishError>> {
        let mut outcomes: Vec<_> = messages.iter().map(|_| Err(PublishError::Disconnected)).collect();
        if !self.is_connected() {
            return outcomes;
        }
        let mut lost = self.link();
        lost.mark_unchanged();
        let mut waiting = FuturesUnordered::new();
        // Sent one by one, because the changes of a call are read in the order in which they were
        // sent; acknowledged in any.
        for (index, message) in messages.iter().enumerate() {
            if !matches!(lost.has_changed(), Ok(false)) {
                return outcomes;
            }
            let sent = self.send(message).await;
            waiting.push(async move { (index, acknowledged(sent, &message.subject).await) });
        }
        loop {
            // Acknowledgements of a connection that broke never come: waiting for them would cost
            // every restart of the server the whole time-out.
            let (index, outcome) = tokio::select! {
                biased;
                done = waiting.next() => match done {
                    Some(done) => done,
                    None => return outcomes,
                },
                _ = lost.changed() => return outcomes,
            };
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = outcome;
            }
        }
    }

    async fn send(&self, message: &Outgoing) -> Result<Sent, PublishError> {
        let subject = self.inner().prefix.subject(&message.subject);
        if message.replaces && self.take_away(message, &subject).await? {
            return Ok(Sent::Before);
        }
        let body = PublishMessage::build().message_id(&message.msg_id).payload(message.payload.clone());
        match tokio::time::timeout(SEND_TIMEOUT, self.inner().jetstream.send_publish(subject, body)).await {
            Ok(Ok(acknowledgement)) => Ok(Sent::Now(acknowledgement)),
            Ok(Err(error)) => Err(PublishError::Refused(error.to_string())),
            Err(_elapsed) => Err(PublishError::TimedOut),
        }
    }

    /// Deletes what the subject holds, and tells whether that is this very message: published by a
    /// relay that died before it could say so, and perhaps in a worker's hands by now.
    async fn take_away(&self, message: &Outgoing, subject: &str) -> Result<bool, PublishError> {
        let stream = self.inner().prefix.stream("CALL_WORK");
        let stream = (self.inner().jetstream.get_stream_no_info(stream).await)
            .map_err(|error| PublishError::Refused(error.to_string()))?;
        let former = match stream.get_last_raw_message_by_subject(subject).await {
            Ok(former) => former,
            Err(error) => return former_missing(&error.kind(), subject),
        };
        let name = former.headers.get(async_nats::header::NATS_MESSAGE_ID).map(async_nats::HeaderValue::as_str);
        if name == Some(message.msg_id.as_str()) {
            return Ok(true);
        }
        // By its sequence, not by subject: another relay may have put the new message there just now.
        // Gone already is as good; that it is still there shows at the publish.
        if let Err(error) = stream.delete_message(former.sequence).await {
            tracing::debug!(%error, "the former message could not be deleted");
        }
        Ok(false)
    }
}

/// A message that has left.
enum Sent {
    Now(PublishAckFuture),
    /// By another relay, before us.
    Before,
}

async fn acknowledged(sent: Result<Sent, PublishError>, subject: &str) -> Result<Published, PublishError> {
    match sent? {
        Sent::Before => Ok(Published::Duplicate),
        Sent::Now(acknowledgement) => match acknowledgement.await {
            Ok(ack) if ack.duplicate => Ok(Published::Duplicate),
            Ok(_) => Ok(Published::Stored),
            Err(error) => refusal(&error, subject),
        },
    }
}

fn former_missing(kind: &RawMessageErrorKind, subject: &str) -> Result<bool, PublishError> {
    match kind {
        LastRawMessageErrorKind::NoMessageFound => Ok(false),
        LastRawMessageErrorKind::JetStream(error) if error.code() == 404 => {
            Err(PublishError::StreamMissing { subject: subject.to_owned() })
        }
        LastRawMessageErrorKind::JetStream(error) => Err(PublishError::Refused(error.to_string())),
        LastRawMessageErrorKind::InvalidSubject => Err(PublishError::Refused("invalid subject".to_owned())),
        LastRawMessageErrorKind::Other => Err(PublishError::TimedOut),
    }
}

fn refusal(error: &LibraryError, subject: &str) -> Result<Published, PublishError> {
    match error.kind() {
        PublishErrorKind::StreamNotFound => return Err(PublishError::StreamMissing { subject: subject.to_owned() }),
        PublishErrorKind::TimedOut => return Err(PublishError::TimedOut),
        PublishErrorKind::BrokenPipe => return Err(PublishError::Disconnected),
        _ => {}
    }
    let reason = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match reason {
        Some(reason) if reason.error_code().0 == STORE_FAILED && reason.to_string().contains(SUBJECT_TAKEN) => {
            Ok(Published::AlreadyQueued)
        }
        Some(reason) => Err(PublishError::Refused(reason.to_string())),
        None => Err(PublishError::Refused(error.to_string())),
    }
}

fn count(outcome: &Result<Published, PublishError>) {
    let outcome = match outcome {
        Ok(Published::Stored) => "stored",
        Ok(Published::Duplicate) => "duplicate",
        Ok(Published::AlreadyQueued) => "already_queued",
        Err(error) => error.kind(),
    };
    metrics::counter!("callfleet_broker_published_total", "outcome" => outcome).increment(1);
}
