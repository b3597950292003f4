//! Where news come in once and go out to every connection: the one dispatcher.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::event::Event;
use super::filter::Filter;
use super::passed::Passed;
use super::source::Source;
use crate::domain::CallKey;
use crate::wire::feed::StateChanged;

/// All connections of a notifier, and how far the news have come.
#[derive(Debug)]
pub(super) struct Hub {
    inner: Mutex<Inner>,
    source: watch::Sender<Source>,
    lane_events: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// The order in which clients are told: it only rises, whatever becomes of the stream.
    position: u64,
    /// What is added to the stream's own sequence.
    ahead: u64,
    passed: Passed,
    subscribers: HashMap<u64, Subscriber>,
    next_id: u64,
}

#[derive(Debug)]
struct Subscriber {
    filter: Arc<Filter>,
    lane: mpsc::Sender<Arc<Event>>,
    missed: Arc<AtomicU64>,
}

impl Hub {
    /// A hub with no connections, whose lanes hold `lane_events` each.
    pub(super) fn new(lane_events: usize) -> Arc<Self> {
        let (source, _) = watch::channel(Source::default());
        Arc::new(Self { inner: Mutex::default(), source, lane_events })
    }

    /// Takes the stream's next message and offers it to every connection that it concerns. Versions
    /// that have gone by are dropped.
    pub(super) fn dispatch(&self, stream_seq: u64, key: CallKey, change: StateChanged) {
        let mut inner = self.lock();
        let seq = inner.ahead + stream_seq;
        let before = inner.passed.note(key, &change, seq);
        if let Some(before) = before {
            let event = Arc::new(Event::new(seq, key, change));
            for subscriber in inner.subscribers.values() {
                if subscriber.filter.concerns(&event.change.call, before) {
                    subscriber.offer(&event);
                }
            }
            metrics::counter!("callfleet_feed_events_total").increment(1);
        } else {
            metrics::counter!("callfleet_feed_stale_total").increment(1);
        }
        // After the lanes: who sees this position and an empty lane has everything.
        inner.position = inner.position.max(seq);
    }

    /// Everything up to `stream_seq` has come, or was there before.
    pub(super) fn advance(&self, stream_seq: u64) {
        let mut inner = self.lock();
        inner.position = inner.position.max(inner.ahead + stream_seq);
    }

    /// News may be missing and the next come behind `stream_seq`, which may be lower than before:
    /// every connection's lane ends, and begins anew with a snapshot.
    pub(super) fn reset(&self, stream_seq: u64) {
        let mut inner = self.lock();
        inner.ahead = inner.ahead.max(inner.position.saturating_sub(stream_seq));
        inner.position = inner.ahead + stream_seq;
        inner.subscribers.clear();
    }

    /// Tells everybody how our own source does.
    pub(super) fn set_source(&self, change: impl FnOnce(&mut Source)) {
        self.source.send_if_modified(|source| {
            let before = source.is_up();
            change(source);
            before != source.is_up()
        });
    }

    /// How our own source does; changes are told when it goes or comes.
    pub(super) fn source(&self) -> watch::Receiver<Source> {
        self.source.subscribe()
    }

    /// A lane of the changes that concern `filter`, from here on.
    pub(super) fn subscribe(self: &Arc<Self>, filter: Arc<Filter>) -> Lane {
        let (sender, events) = mpsc::channel(self.lane_events);
        let missed = Arc::<AtomicU64>::default();
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.subscribers.insert(id, Subscriber { filter, lane: sender, missed: Arc::clone(&missed) });
        Lane { start: inner.position, events, missed, hub: Arc::clone(self), id }
    }

    /// How far the news have come.
    pub(super) fn position(&self) -> u64 {
        self.lock().position
    }

    /// For each of `calls`, whether that version or a newer one had gone by at `seq`.
    pub(super) fn had_passed(&self, calls: impl IntoIterator<Item = (CallKey, i32)>, seq: u64) -> Vec<bool> {
        let inner = self.lock();
        calls.into_iter().map(|(key, version)| inner.passed.had(key, version, seq)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// After the first change that does not fit, all are missed until the lane is taken anew: one
    /// that follows a hole must not look like it did not.
    fn offer(&self, event: &Arc<Event>) {
        let missed = self.missed.load(Ordering::Relaxed) > 0;
        if missed || matches!(self.lane.try_send(Arc::clone(event)), Err(mpsc::error::TrySendError::Full(_))) {
            self.missed.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("callfleet_ws_missed_total").increment(1);
        }
    }
}

/// One connection's changes, in order. Dropping it ends the subscription.
#[derive(Debug)]
pub(super) struct Lane {
    /// Everything up to here came before.
    pub(super) start: u64,
    events: mpsc::Receiver<Arc<Event>>,
    missed: Arc<AtomicU64>,
    hub: Arc<Hub>,
    id: u64,
}

/// Why a lane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneEnd {
    /// It was full: so many changes were dropped so far.
    Full(u64),
    /// The source was interrupted.
    Reset,
}

impl Lane {
    /// The next change, or why there is none. Dropped before it is ready, it has taken nothing.
    pub(super) async fn next(&mut self) -> Result<Arc<Event>, LaneEnd> {
        self.check()?;
        self.events.recv().await.ok_or(LaneEnd::Reset)
    }

    /// The next change if there is one by now.
    pub(super) fn try_next(&mut self) -> Result<Option<Arc<Event>>, LaneEnd> {
        self.check()?;
        match self.events.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(LaneEnd::Reset),
        }
    }

    /// How far the owner is, given that it sent all that it took from here: the hub's position when
    /// nothing is queued.
    pub(super) fn caught_up(&self) -> Option<u64> {
        let position = self.hub.position();
        let complete = self.events.is_empty() && !self.events.is_closed() && self.check().is_ok();
        complete.then_some(position)
    }

    fn check(&self) -> Result<(), LaneEnd> {
        match self.missed.load(Ordering::Relaxed) {
            0 => Ok(()),
            missed => Err(LaneEnd::Full(missed)),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let removed = self.hub.lock().subscribers.remove(&self.id);
        drop(removed);
    }
}
