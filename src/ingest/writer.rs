//! A writer: takes what waits, flushes it, answers it, and takes what came meanwhile. No timer: the
//! time a flush takes is the time in which the next one fills. While PostgreSQL does not answer, what
//! it takes goes to the spool.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::closer::Closer;
use super::flush::{Flushed, Rules, flush, news};
use super::gaps::GapWatch;
use super::queue::{Answer, Entry, Refusal, Submission};
use super::reach::Reach;
use super::spooled;
use super::tracker::Tracker;
use crate::relay;
use crate::spool::Spool;
use crate::store::{Session, Store, StoreError, calls, change};

/// Entries that one flush takes: beyond some hundreds a batch gains nothing and waits longer.
const FLUSH_MAX_ENTRIES: usize = 512;
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Time after which a door that is still open at shutdown is no longer waited for; longer than
/// requests in hand get to finish.
const DOORS_CLOSE: Duration = Duration::from_secs(12);

/// One writer with what it remembers and whom it tells.
pub(super) struct Writer {
    pub(super) session: Session,
    pub(super) store: Store,
    pub(super) rules: Rules,
    pub(super) tracker: Tracker,
    pub(super) relay: relay::Handle,
    pub(super) gaps: GapWatch,
    pub(super) closer: Closer,
    pub(super) spool: Spool,
    pub(super) reach: Reach,
    /// Time that PostgreSQL gets for a flush before it counts as lost.
    pub(super) deadline: Duration,
}

/// Why a flush did not end well.
enum NotFlushed {
    /// PostgreSQL did not answer in time: what became of the flush is not known.
    Lost(String),
    /// It refused: nothing is stored.
    Refused(StoreError),
}

impl Writer {
    /// Writes until the last door is closed, or [`DOORS_CLOSE`] after `shutdown`, and what still
    /// waits then.
    pub(super) async fn run(
        mut self,
        mut queue: mpsc::UnboundedReceiver<Submission>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let first = tokio::select! {
                biased;
                submission = queue.recv() => submission,
                () = doors_close(&shutdown), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            };
            let Some(first) = first else { return Ok(()) };
            let mut waiting = vec![first];
            let mut count: usize = waiting.iter().map(|s| s.entries.len()).sum();
            while count < FLUSH_MAX_ENTRIES
                && let Ok(next) = queue.try_recv()
            {
                count += next.entries.len();
                waiting.push(next);
            }
            self.write(waiting).await;
        }
    }

    async fn write(&mut self, waiting: Vec<Submission>) {
        let mut replies = Vec::with_capacity(waiting.len());
        let mut entries = Vec::new();
        for submission in waiting {
            replies.push((submission.entries.len(), submission.reply));
            entries.extend(submission.entries);
        }
        let began = Instant::now();
        let mut answers = self.store(&entries, began + self.deadline).await;
        self.describe(&entries, &mut answers).await;
        metrics::histogram!("callfleet_ingest_flush_seconds").record(began.elapsed());
        #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 entries")]
        metrics::histogram!("callfleet_ingest_flush_entries").record(entries.len() as f64);
        let mut answers = answers.into_iter();
        for (count, reply) in replies {
            // A sender that went away has its packets stored all the same.
            let _gone = reply.send(answers.by_ref().take(count).collect());
        }
    }

    /// Flushes `entries`, or keeps them in the spool when PostgreSQL does not answer; when it refuses a
    /// batch, halves it until the culprit is alone.
    async fn store(&mut self, entries: &[Entry], deadline: Instant) -> Vec<Answer> {
        if !self.reach.is_present() {
            return spooled::keep(&self.spool, entries, "PostgreSQL does not answer").await;
        }
        match self.flush_until(entries, deadline).await {
            Ok(flushed) => self.tell(flushed),
            Err(NotFlushed::Lost(error)) => {
                self.reach.lost(&error);
                spooled::keep(&self.spool, entries, &error).await
            }
            Err(NotFlushed::Refused(error)) if entries.len() == 1 => {
                tracing::error!(%error, key = ?entries.first().map(Entry::key), "the database refused a packet");
                vec![Err(Refusal::Unstorable)]
            }
            Err(NotFlushed::Refused(_)) => {
                let (one, other) = entries.split_at(entries.len() / 2);
                let mut answers = Box::pin(self.store(one, deadline)).await;
                answers.extend(Box::pin(self.store(other, deadline)).await);
                answers
            }
        }
    }

    async fn flush_until(&mut self, entries: &[Entry], deadline: Instant) -> Result<Flushed, NotFlushed> {
        let mut again = false;
        loop {
            let flushing = flush(&mut self.session, &mut self.tracker, &self.rules, entries, again);
            let error = match tokio::time::timeout_at(deadline.into(), flushing).await {
                Ok(Ok(flushed)) => return Ok(flushed),
                Ok(Err(error)) if !error.is_transient() => return Err(NotFlushed::Refused(error)),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => format!("no answer within {} ms", self.deadline.as_millis()),
            };
            // Whatever is still under way on this connection is not waited for.
            self.session.reset();
            metrics::counter!("callfleet_ingest_flush_failures_total").increment(1);
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(NotFlushed::Lost(error));
            }
            tracing::warn!(error, entries = entries.len(), "a flush failed and is tried again");
            tokio::time::sleep(RETRY_PAUSE).await;
            again = true;
        }
    }

    fn tell(&mut self, flushed: Flushed) -> Vec<Answer> {
        if flushed.conflicts > 0 {
            metrics::counter!("callfleet_packet_conflicts_total").increment(flushed.conflicts);
            tracing::warn!(conflicts = flushed.conflicts, "copies came with other content than the stored packets");
        }
        self.relay.send(flushed.outgoing);
        self.gaps.saw(flushed.stored);
        self.closer.look_at(flushed.ended, flushed.passed_cap);
        flushed.answers
    }

    /// Stores what the entries newly say of their calls; entries whose news could not be stored are
    /// answered so, and may be sent again.
    async fn describe(&mut self, entries: &[Entry], answers: &mut [Answer]) {
        let news = news(&mut self.tracker, entries);
        // What is in the spool says it again when it is stored.
        if news.is_empty() || !self.reach.is_present() {
            return;
        }
        let keys: Vec<_> = news.keys().copied().collect();
        let decide = |call: &crate::domain::Call, now| news.get(&call.key).and_then(|said| call.describe(said, now));
        let (failed, refusal) = match change::change(&self.store, &keys, decide).await {
            Ok(changed) => {
                self.relay.send(changed.outgoing);
                (changed.conflicts, Refusal::Conflict)
            }
            Err(error) => (keys.clone(), Refusal::Unavailable(error.to_string())),
        };
        for key in keys.iter().filter(|key| !failed.contains(key)) {
            if let (Some(track), Some(said)) = (self.tracker.get(*key), news.get(key)) {
                track.metadata = std::sync::Arc::new(track.metadata.overlaid(said));
            }
        }
        for (entry, answer) in entries.iter().zip(answers) {
            if answer.is_ok() && failed.contains(&entry.key()) {
                *answer = Err(refusal.clone());
            }
        }
    }
}

async fn doors_close(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DOORS_CLOSE).await;
}

/// Flags calls whose caps were passed.
pub(super) async fn flag(store: &Store, keys: &[crate::domain::CallKey]) {
    for key in keys {
        tracing::warn!(%key, "a call has passed its cap; further packets are refused");
    }
    if let Err(error) = calls::mark_over_limit(store, keys).await {
        tracing::warn!(%error, "calls over their caps could not be flagged");
    }
}
