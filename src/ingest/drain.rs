//! Out of the spool: message by message through the same queue as everything else, each deleted when
//! all it holds is stored.
//!
//! One message at a time and ingest: its entries share the flushes with what comes in at the doors, so
//! that neither starves the other. A message that comes a second time (this process died between the
//! commit and the acknowledgement) finds its packets stored, and changes nothing.

use std::time::Duration;

use chrono::TimeDelta;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::queue::{Entry, Full, Queue, Refusal};
use super::reach::Reach;
use super::spooled;
use crate::relay;
use crate::spool::{Spool, SpoolMessage, Waiting};
use crate::store::{Store, StoreError, spool_letters};
use crate::wire::spool;

/// Time that one look waits for a message.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after a message that could not be stored now.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Time after which an end signal is dropped whose call has not come: no ingest is that far behind.
const UNKNOWN_CALL_PATIENCE: TimeDelta = TimeDelta::minutes(10);
/// Pause before an end signal is tried again whose call may still be in another message.
const UNKNOWN_CALL_PAUSE: Duration = Duration::from_secs(2);

/// What the drain works with.
pub(super) struct Drain {
    pub(super) spool: Spool,
    pub(super) queue: Queue,
    pub(super) reach: Reach,
    pub(super) store: Store,
    pub(super) relay: relay::Handle,
}

/// What is to become of a message.
enum Fate {
    /// All of it is stored, or laid down.
    Done { stored: usize },
    /// Not now.
    Later(Duration),
}

/// Drains the spool until `shutdown`.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub(super) async fn run(drain: Drain, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = drain.one() => {}
            // A message in hand comes again: nothing of it is acknowledged before it is stored.
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

impl Drain {
    /// Waits for a message and sees it through.
    async fn one(&self) {
        self.reach.present().await;
        self.spool.connected().await;
        let message = match self.spool.next(LOOK).await {
            Ok(Some(message)) => message,
            Ok(None) => {
                // Also sets the gauge back.
                if self.spool.waiting().await == Waiting::Unknown {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "the spool cannot be drained now");
                return tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        let told = match self.fate(&message).await {
            Fate::Done { stored } => {
                metrics::counter!("callfleet_drained_entries_total").increment(stored as u64);
                tracing::debug!(stored, "a message of the spool is stored");
                message.done().await
            }
            Fate::Later(pause) => message.again_after(pause).await,
        };
        if let Err(error) = told {
            // It comes again when its time is over, and finds its work done.
            tracing::debug!(%error, "the spool could not be told");
        }
    }

    async fn fate(&self, message: &SpoolMessage) -> Fate {
        let batch = match spool::read(&message.payload) {
            Ok(batch) => batch,
            Err(reason) => return self.lay_down(&reason, &message.payload).await.unwrap_or(Fate::Done { stored: 0 }),
        };
        let mut entries = Vec::with_capacity(batch.entries.len());
        for entry in batch.entries {
            let written = serde_json::to_vec(&entry).unwrap_or_default();
            match spooled::read(entry) {
                Ok(entry) => entries.push((entry, written)),
                Err(field) => {
                    let reason = format!("an entry with a {field} that no door lets in");
                    if let Some(later) = self.lay_down(&reason, &written).await {
                        return later;
                    }
                }
            }
        }
        self.store(message, entries).await
    }

    async fn store(&self, message: &SpoolMessage, entries: Vec<(Entry, Vec<u8>)>) -> Fate {
        let (entries, written): (Vec<Entry>, Vec<Vec<u8>>) = entries.into_iter().unzip();
        let answers = match self.queue.store_all(entries).await {
            Ok(answers) => answers,
            Err(Full) => return Fate::Later(RETRY_PAUSE),
        };
        let mut stored = 0;
        let mut later = None;
        for (answer, written) in answers.into_iter().zip(written) {
            match answer {
                Ok(_) => stored += 1,
                Err(Refusal::Unavailable(_) | Refusal::Conflict | Refusal::CallTooLarge) => later = Some(RETRY_PAUSE),
                Err(Refusal::UnknownCall) if self.is_given_up(message) => {
                    tracing::warn!("an end signal of a call that nobody opened is dropped");
                }
                Err(Refusal::UnknownCall) => later = later.or(Some(UNKNOWN_CALL_PAUSE)),
                Err(Refusal::Unstorable) => {
                    if let Some(Fate::Later(pause)) = self.lay_down("the database refuses it", &written).await {
                        later = Some(pause);
                    }
                }
            }
        }
        later.map_or(Fate::Done { stored }, Fate::Later)
    }

    fn is_given_up(&self, message: &SpoolMessage) -> bool {
        message.published_at.is_some_and(|at| self.store.now() - at > UNKNOWN_CALL_PATIENCE)
    }

    /// Lays down what cannot be stored, once however often it comes; nothing when that is done.
    async fn lay_down(&self, reason: &str, payload: &[u8]) -> Option<Fate> {
        let id = name(payload);
        let laid_down: Result<_, StoreError> = spool_letters::append(&self.store, id, reason, payload).await;
        match laid_down {
            Ok(outgoing) => {
                if !outgoing.is_empty() {
                    tracing::error!(%id, reason, "something in the spool cannot be stored: see `callfleet dlq list`");
                    metrics::counter!("callfleet_spool_letters_total").increment(1);
                }
                self.relay.send(outgoing);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "something in the spool could not be laid down yet");
                Some(Fate::Later(RETRY_PAUSE))
            }
        }
    }
}

/// The same name for the same bytes.
fn name(payload: &[u8]) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(payload).into();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
    Uuid::from_bytes(bytes)
}
