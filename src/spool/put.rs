//! Into the spool: one message for what one flush would have stored.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::broker::{Broker, ConsumeError, SpoolMessage};
use crate::wire::outgoing::Outgoing;
use crate::wire::spool::{SpooledEntry, messages};
use crate::wire::subject;

/// Time for the acknowledgements: together with the time that PostgreSQL gets, what a sender waits.
const PUT_DEADLINE: Duration = Duration::from_secs(2);

/// Why entries were not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// A single copy of the stream, whose server may not write through.
    #[error("the spool has one replica and nobody vouches for sync_interval: always (--spool-r1)")]
    NotDurable,
    /// JetStream is away, full or too slow.
    #[error("JetStream keeps nothing: {0}")]
    Refused(String),
}

/// An ingest's way to the spool. A clone is the same way.
#[derive(Clone, Debug)]
pub struct Spool {
    broker: Broker,
    ingest: Uuid,
    is_durable: bool,
}

impl Spool {
    /// The way of one ingest. `vouched` says that the server writes through, so that one replica
    /// will do.
    #[must_use]
    pub fn new(broker: Broker, vouched: bool) -> Self {
        let is_durable = vouched || broker.replicas() > 1;
        Self { broker, ingest: Uuid::new_v4(), is_durable }
    }

    /// Whether [`Spool::put`] may succeed now, as far as one can tell without trying.
    #[must_use]
    pub fn may_keep(&self) -> bool {
        self.is_durable && self.broker.is_connected()
    }

    /// Keeps `entries`, and answers for each in their order.
    pub async fn put(&self, entries: &[SpooledEntry<'_>]) -> Vec<Result<(), NotKept>> {
        let all = |why: NotKept| entries.iter().map(|_| Err(why.clone())).collect();
        if !self.is_durable {
            return all(NotKept::NotDurable);
        }
        let (counts, outgoing): (Vec<usize>, Vec<Outgoing>) =
            messages(entries).into_iter().map(|(count, message)| (count, self.outgoing(message))).unzip();
        let published = match tokio::time::timeout(PUT_DEADLINE, self.broker.publish(&outgoing)).await {
            Ok(published) => published,
            Err(_elapsed) => return all(NotKept::Refused("no acknowledgement in time".to_owned())),
        };
        let kept = counts.into_iter().zip(published).flat_map(|(count, outcome)| {
            let outcome = outcome.map(drop).map_err(|error| NotKept::Refused(error.to_string()));
            std::iter::repeat_n(outcome, count)
        });
        kept.collect()
    }

    /// The next message that waits, from whichever ingest; none when none came within `expires`.
    ///
    /// # Errors
    /// When JetStream is away. Wait, and ask again.
    pub async fn next(&self, expires: Duration) -> Result<Option<SpoolMessage>, ConsumeError> {
        self.broker.next_spooled(expires).await
    }

    /// What waits, as [`super::waiting`] says it.
    pub async fn waiting(&self) -> super::Waiting {
        super::waiting(&self.broker).await
    }

    /// Waits until JetStream is there.
    pub async fn connected(&self) {
        self.broker.connected().await;
    }

    fn outgoing(&self, message: Vec<u8>) -> Outgoing {
        Outgoing {
            msg_id: format!("spool-{}", Uuid::new_v4().simple()),
            subject: subject::spool(self.ingest),
            payload: Bytes::from(message),
            replaces: false,
        }
    }
}
