//! The way from the doors to the writers: bounded by bytes, answered one by one.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::domain::{CallId, CallKey, Packet, Tenant};
use crate::wire::receipt::Durability;

/// Bytes that may wait for the writers before the doors answer 503.
const QUEUE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an entry weighs beside its data.
const ENTRY_BYTES: usize = 512;

/// One thing to be stored.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whose call it is.
    pub(super) tenant: Tenant,
    /// Which call.
    pub(super) call_id: CallId,
    /// What is to be stored of it.
    pub(super) what: What,
    /// It comes from the spool: its sender has its 202, so that no limit applies any more, and it may
    /// have been here before.
    pub(super) is_spooled: bool,
}

/// What an entry brings.
#[derive(Debug)]
pub(super) enum What {
    /// A packet, which may carry the end signal.
    Packet(Packet),
    /// The end signal alone.
    End { key: CallKey, reason: String, final_sequence: Option<i64>, received_at: DateTime<Utc> },
}

impl Entry {
    pub(super) fn key(&self) -> CallKey {
        match &self.what {
            What::Packet(packet) => packet.key,
            What::End { key, .. } => *key,
        }
    }

    pub(super) fn received_at(&self) -> DateTime<Utc> {
        match &self.what {
            What::Packet(packet) => packet.received_at,
            What::End { received_at, .. } => *received_at,
        }
    }

    fn weight(&self) -> usize {
        ENTRY_BYTES
            + match &self.what {
                What::Packet(packet) => packet.data.len(),
                What::End { .. } => 0,
            }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// It was there before (packets), or the call had ended before (ends).
    pub(super) is_duplicate: bool,
    /// The call was over when it came.
    pub(super) is_late: bool,
    /// When it was taken in.
    pub(super) received_at: DateTime<Utc>,
    /// Where it is durable.
    pub(super) durability: Durability,
}

/// Why an entry was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Neither store takes it: the sender may send it again.
    Unavailable(String),
    /// The call has passed its cap.
    CallTooLarge,
    /// An end signal for a call nobody opened.
    UnknownCall,
    /// The database takes this one entry for ill-formed.
    Unstorable,
    /// Others kept changing the call's metadata at the same time.
    Conflict,
}

/// One entry's answer.
pub(super) type Answer = Result<Outcome, Refusal>;

/// Entries of one request for one writer, with the way back.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) entries: Vec<Entry>,
    pub(super) reply: oneshot::Sender<Vec<Answer>>,
    _room: OwnedSemaphorePermit,
}

/// The doors' end of the queues. A clone leads to the same writers.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    writers: Arc<[mpsc::UnboundedSender<Submission>]>,
    room: Arc<Semaphore>,
    hasher: RandomState,
}

/// The queue is full, or its writer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// A queue to `writers` writers and their ends of it. All packets of a call go to one writer,
    /// so that those of one process never wait for each other's rows.
    pub(super) fn new(writers: usize) -> (Self, Vec<mpsc::UnboundedReceiver<Submission>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..writers.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let room = Arc::new(Semaphore::new(QUEUE_MAX_BYTES));
        (Self { writers: senders.into(), room, hasher: RandomState::new() }, receivers)
    }

    /// Has one entry stored.
    ///
    /// # Errors
    /// When the queue is full.
    pub(super) async fn store(&self, entry: Entry) -> Result<Answer, Full> {
        let writer = self.writer_of(entry.key());
        let answers = self.submit(writer, vec![entry])?.await.map_err(|_| Full)?;
        answers.into_iter().next().ok_or(Full)
    }

    /// Has many entries stored, and answers in their order.
    ///
    /// # Errors
    /// When the queue is full; some entries may be stored all the same.
    pub(super) async fn store_all(&self, entries: Vec<Entry>) -> Result<Vec<Answer>, Full> {
        let mut order = Vec::with_capacity(entries.len());
        let mut shares: Vec<Vec<Entry>> = self.writers.iter().map(|_| Vec::new()).collect();
        for entry in entries {
            let writer = self.writer_of(entry.key());
            order.push(writer);
            if let Some(share) = shares.get_mut(writer) {
                share.push(entry);
            }
        }
        let mut replies = Vec::with_capacity(shares.len());
        for (writer, share) in shares.into_iter().enumerate() {
            replies.push(self.submit(writer, share)?);
        }
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            answers.push(reply.await.map_err(|_| Full)?.into_iter());
        }
        order.into_iter().map(|writer| answers.get_mut(writer).and_then(Iterator::next).ok_or(Full)).collect()
    }

    fn submit(&self, writer: usize, entries: Vec<Entry>) -> Result<oneshot::Receiver<Vec<Answer>>, Full> {
        let weight = entries.iter().map(Entry::weight).sum::<usize>().min(QUEUE_MAX_BYTES);
        let weight = u32::try_from(weight).map_err(|_| Full)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(weight).map_err(|_| Full)?;
        let (reply, answers) = oneshot::channel();
        let submission = Submission { entries, reply, _room: room };
        self.writers.get(writer).ok_or(Full)?.send(submission).map_err(|_| Full)?;
        Ok(answers)
    }

    fn writer_of(&self, key: CallKey) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % self.writers.len() as u64).unwrap_or(0)
    }
}
