//! Gaps: sequences that did not come although later ones did. They are looked for in memory as
//! packets pass, proved by one query for many calls a moment later (another replica may have them),
//! and said once. They never block a call.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::domain::{CallKey, Ranges};
use crate::spool::Spool;
use crate::store::{Store, StoreError, calls, packets};

/// Calls watched at a time in one generation of two.
const CALLS_PER_GENERATION: usize = 50_000;
/// Batches of packets that may wait to be looked at; beyond that they pass unlooked at, and a gap
/// among them is found with the call's next packet.
const QUEUE_MAX: usize = 4096;
/// Time between two warnings about one call.
const WARNING_PAUSE: Duration = Duration::from_secs(30);

/// The writers' end: hands over what was stored.
#[derive(Clone, Debug)]
pub(super) struct GapWatch {
    sender: mpsc::Sender<HashSet<(CallKey, i64)>>,
}

/// The way to the watch's task.
pub(super) type Receiver = mpsc::Receiver<HashSet<(CallKey, i64)>>;

impl GapWatch {
    /// A watch's two ends.
    pub(super) fn new() -> (Self, Receiver) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        (Self { sender }, receiver)
    }

    /// Has new packets looked at; never waits.
    pub(super) fn saw(&self, stored: HashSet<(CallKey, i64)>) {
        if !stored.is_empty() && self.sender.try_send(stored).is_err() {
            metrics::counter!("callfleet_gap_watch_drops_total").increment(1);
        }
    }
}

/// What is known of one call's sequence.
#[derive(Debug)]
struct Watched {
    /// Everything below is there, or was reported missing.
    next: i64,
    /// What came beyond `next`.
    ahead: BTreeSet<i64>,
    /// Since when something is ahead.
    since: Instant,
    /// When the last warning was given.
    warned: Option<Instant>,
}

impl Watched {
    fn saw(&mut self, sequence: i64, now: Instant) {
        if sequence < self.next {
            return;
        }
        if sequence > self.next {
            if self.ahead.is_empty() {
                self.since = now;
            }
            self.ahead.insert(sequence);
            return;
        }
        self.next = sequence.saturating_add(1);
        while self.ahead.remove(&self.next) {
            self.next = self.next.saturating_add(1);
        }
    }
}

/// A gap that is proved.
#[derive(Debug, PartialEq, Eq)]
struct Gap {
    key: CallKey,
    missing: Ranges,
    is_to_be_said: bool,
}

/// The calls that are watched; bounded by two generations.
#[derive(Debug, Default)]
struct Watch {
    young: HashMap<CallKey, Watched>,
    old: HashMap<CallKey, Watched>,
    suspects: HashSet<CallKey>,
}

impl Watch {
    fn saw(&mut self, key: CallKey, sequence: i64, now: Instant) {
        let watched = self.watched(key, now);
        watched.saw(sequence, now);
        let is_suspect = !watched.ahead.is_empty();
        if is_suspect {
            self.suspects.insert(key);
        } else {
            self.suspects.remove(&key);
        }
    }

    fn watched(&mut self, key: CallKey, now: Instant) -> &mut Watched {
        if !self.young.contains_key(&key) {
            if self.young.len() >= CALLS_PER_GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            let known = self.old.remove(&key);
            let new = Watched { next: 1, ahead: BTreeSet::new(), since: now, warned: None };
            self.young.insert(key, known.unwrap_or(new));
        }
        self.young.entry(key).or_insert_with(|| Watched { next: 1, ahead: BTreeSet::new(), since: now, warned: None })
    }

    /// Suspects for whose missing packets `grace` was long enough, with the sequence to look from.
    fn ripe(&mut self, grace: Duration, now: Instant) -> Vec<(CallKey, i64)> {
        let (young, old) = (&self.young, &self.old);
        let find = |key: &CallKey| young.get(key).or_else(|| old.get(key));
        self.suspects.retain(|key| find(key).is_some());
        self.suspects
            .iter()
            .filter_map(|key| find(key).filter(|w| now.duration_since(w.since) >= grace).map(|w| (*key, w.next)))
            .collect()
    }

    /// Takes over what the database says is there from `from` on, and returns the gap, if it is one.
    fn prove(&mut self, key: CallKey, from: i64, there: &Ranges, now: Instant) -> Option<Gap> {
        let watched = self.watched(key, now);
        let highest = there.last()?;
        let missing = there.missing_from(from);
        watched.next = watched.next.max(highest.saturating_add(1));
        let next = watched.next;
        watched.ahead.retain(|sequence| *sequence >= next);
        watched.since = now;
        let is_suspect = !watched.ahead.is_empty();
        let is_to_be_said = watched.warned.is_none_or(|warned| now.duration_since(warned) >= WARNING_PAUSE);
        if is_to_be_said && !missing.is_empty() {
            watched.warned = Some(now);
        }
        if !is_suspect {
            self.suspects.remove(&key);
        }
        (!missing.is_empty()).then_some(Gap { key, missing, is_to_be_said })
    }
}

/// Looks for gaps until the last writer is gone.
pub(super) async fn run(store: Store, spool: Spool, grace: Duration, mut queue: Receiver) -> anyhow::Result<()> {
    let mut watch = Watch::default();
    let mut look = tokio::time::interval(grace.max(Duration::from_millis(20)) / 2);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            stored = queue.recv() => match stored {
                Some(stored) => saw(&mut watch, stored),
                None => return Ok(()),
            },
            _ = look.tick() => {
                let ripe = watch.ripe(grace, Instant::now());
                // What is missing may be waiting in the spool.
                if ripe.is_empty() || !spool.waiting().await.is_nothing() {
                    continue;
                }
                match prove(&store, &mut watch, &ripe).await {
                    Ok(gaps) => say(&store, &gaps).await,
                    Err(error) => tracing::debug!(%error, "gaps could not be proved yet"),
                }
            }
        }
    }
}

fn saw(watch: &mut Watch, stored: HashSet<(CallKey, i64)>) {
    let now = Instant::now();
    let mut stored: Vec<_> = stored.into_iter().collect();
    stored.sort_unstable();
    for (key, sequence) in stored {
        watch.saw(key, sequence, now);
    }
}

async fn prove(store: &Store, watch: &mut Watch, ripe: &[(CallKey, i64)]) -> Result<Vec<Gap>, StoreError> {
    let there: HashMap<CallKey, Ranges> = packets::sequences_from(store, ripe).await?.into_iter().collect();
    let now = Instant::now();
    let gap = |(key, from): &(CallKey, i64)| there.get(key).and_then(|there| watch.prove(*key, *from, there, now));
    Ok(ripe.iter().filter_map(gap).collect())
}

async fn say(store: &Store, gaps: &[Gap]) {
    for gap in gaps {
        let count = u64::try_from(gap.missing.count()).unwrap_or(0);
        metrics::counter!("callfleet_missing_packets_total").increment(count);
        if gap.is_to_be_said {
            let call = calls::find(store, gap.key).await.ok().flatten();
            let call_id = call.as_ref().map_or("", |call| call.call_id.as_str());
            let missing = serde_json::to_string(&gap.missing).unwrap_or_default();
            // Debug form: an id is hostile input to a terminal too.
            tracing::warn!(?call_id, key = %gap.key, missing, "gap: sequences are missing; the call goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Watch;
    use crate::domain::{CallId, CallKey, Ranges, Tenant};

    const GRACE: Duration = Duration::from_secs(1);

    fn key() -> CallKey {
        CallKey::derive(&Tenant::open_mode(), &CallId::new("c").unwrap())
    }

    #[test]
    fn packets_out_of_order_are_no_gap_once_they_are_there() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        for sequence in [3, 1, 2, 0, 5, 4] {
            watch.saw(key(), sequence, now);
        }
        assert!(watch.ripe(GRACE, now + GRACE).is_empty());
    }

    #[test]
    fn a_gap_is_reported_once_and_what_another_replica_took_is_none() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        for sequence in [1, 4, 6] {
            watch.saw(key(), sequence, now);
        }
        assert!(watch.ripe(GRACE, now).is_empty());
        let later = now + GRACE;
        assert_eq!(watch.ripe(GRACE, later), [(key(), 2)]);
        let gap = watch.prove(key(), 2, &Ranges::of([4, 5, 6]), later).unwrap();
        assert_eq!((gap.missing, gap.is_to_be_said), (Ranges::of([2, 3]), true));
        assert!(watch.ripe(GRACE, later + GRACE).is_empty());
        watch.saw(key(), 9, later);
        let gap = watch.prove(key(), 7, &Ranges::of([9]), later).unwrap();
        assert_eq!((gap.missing, gap.is_to_be_said), (Ranges::of([7, 8]), false));
        watch.saw(key(), 11, later);
        assert!(watch.prove(key(), 10, &Ranges::of([10, 11]), later).is_none());
    }
}
