//! The load: senders that share the plan, the pace, the ledger and the counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::connection::Address;
use super::ledger::Ledger;
use super::pace::Pace;
use super::plan::{Plan, PlannedCall};
use super::sender::Sender;

/// Calls that one sender has under way at once, so that their packets interleave; more would spread
/// the end of a shuffled call over longer than ingest waits for stragglers.
const OPEN_CALLS_PER_SENDER: u32 = 2;
/// Longest pause between two packets of a call under a low --rate, for the same reason.
const MAX_PACKET_GAP_S: f64 = 0.2;

/// What all senders share.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) plan: Plan,
    pub(super) address: Address,
    pub(super) ledger: Arc<Ledger>,
    pub(super) pace: Pace,
    pub(super) tally: Tally,
    pub(super) stop: CancellationToken,
    pub(super) batch: usize,
    pub(super) open_calls_per_sender: usize,
    senders: u32,
    next_call: AtomicU32,
}

/// Counts while the load runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Packets sent, copies included, each once however often it was tried
    pub(super) sent: AtomicU64,
    /// Answered 202 and new
    pub(super) accepted: AtomicU64,
    /// Answered 202 and there before
    pub(super) duplicates: AtomicU64,
    /// Answered that they will never be taken
    pub(super) refused: AtomicU64,
    /// Requests sent again after 429, 5xx or a lost connection
    pub(super) retries: AtomicU64,
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64, packets: usize) {
        counter.fetch_add(packets as u64, Ordering::Relaxed);
    }
}

/// A call after its last packet was answered.
#[derive(Clone, Debug)]
pub(super) struct SentCall {
    pub(super) call_id: String,
    /// Packets that were answered 202, each sequence once
    pub(super) stored: u32,
    /// Packets left out on purpose
    pub(super) dropped: u32,
    /// A call of a scene: audited, and left out of the load's numbers
    pub(super) is_scene: bool,
}

/// Packets that the server will not take, of one kind.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) packets: u64,
    /// The first one's answer
    pub(super) example: String,
}

/// What one sender, or all of them, sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) calls: Vec<SentCall>,
    /// Microseconds from sending to the 202
    pub(super) latency_us: Histogram<u64>,
    /// By code
    pub(super) refusals: BTreeMap<String, Refusal>,
}

impl Sent {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { calls: Vec::new(), latency_us: Histogram::new(3)?, refusals: BTreeMap::new() })
    }

    /// Records the latency of a 202.
    pub(super) fn answered_after(&mut self, latency: Duration) -> anyhow::Result<()> {
        // Not `saturating_record`, which cuts at the present size instead of growing.
        Ok(self.latency_us.record(u64::try_from(latency.as_micros())?)?)
    }

    fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.calls.extend(other.calls);
        self.latency_us.add(&other.latency_us)?;
        for (code, refusal) in other.refusals {
            self.refusals.entry(code).and_modify(|known| known.packets += refusal.packets).or_insert(refusal);
        }
        Ok(())
    }
}

impl Load {
    pub(super) fn new(
        options: &Options,
        plan: Plan,
        address: Address,
        ledger: Arc<Ledger>,
        stop: CancellationToken,
    ) -> Self {
        let (senders, open_calls_per_sender) = shape(options);
        Self {
            plan,
            address,
            ledger,
            pace: Pace::new(options.rate, Instant::now()),
            tally: Tally::default(),
            stop,
            batch: options.batch as usize,
            open_calls_per_sender,
            senders,
            next_call: AtomicU32::new(0),
        }
    }

    /// The next call that nobody has taken yet.
    pub(super) fn next_call(&self) -> Option<PlannedCall> {
        let index = self.next_call.fetch_add(1, Ordering::Relaxed);
        if index < self.plan.calls {
            return Some(self.plan.call(index));
        }
        // Senders go on asking while they finish their calls: the counter must not wrap.
        self.next_call.store(self.plan.calls, Ordering::Relaxed);
        None
    }

    /// Sends everything; how long it took.
    ///
    /// # Errors
    /// When a packet cannot be delivered for minutes, or the ledger cannot be written.
    pub(super) async fn run(self: Arc<Self>) -> anyhow::Result<(Sent, Duration)> {
        let started_at = Instant::now();
        let mut senders = JoinSet::new();
        for number in 0..self.senders {
            senders.spawn(Sender::new(Arc::clone(&self), number)?.run());
        }
        let mut sent = Sent::new()?;
        while let Some(ended) = senders.join_next().await {
            // The first failure drops the set, and the other senders with it.
            sent.add(ended.context("a sender panicked")??)?;
        }
        Ok((sent, started_at.elapsed()))
    }
}

/// How many senders, and how many calls each has under way.
fn shape(options: &Options) -> (u32, usize) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to u32's range")]
    let calls_at_rate =
        options.rate.map_or(u32::MAX, |rate| (rate * MAX_PACKET_GAP_S).clamp(1.0, f64::from(u32::MAX)) as u32);
    let senders = options.concurrency.min(options.calls).min(calls_at_rate).max(1);
    let calls_to_fill_a_batch = options.batch.div_ceil(options.packets) + 1;
    let open_calls = (calls_at_rate / senders).clamp(1, OPEN_CALLS_PER_SENDER.max(calls_to_fill_a_batch));
    (senders, open_calls as usize)
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::{Options, Sent, shape};
    use std::time::Duration;

    #[test]
    fn a_slow_answer_is_shown_as_slow_as_it_was() {
        let (mut all, mut one) = (Sent::new().unwrap(), Sent::new().unwrap());
        one.answered_after(Duration::from_micros(900)).unwrap();
        one.answered_after(Duration::from_secs(29)).unwrap();
        all.add(one).unwrap();
        assert!(all.latency_us.max() >= 29_000_000);
        assert!((899..=901).contains(&all.latency_us.min()));
    }

    #[test]
    fn a_low_rate_keeps_few_calls_under_way() {
        let shape = |options| shape(&Options { calls: 1000, concurrency: 50, ..options });
        assert_eq!(shape(options()), (50, 2));
        assert_eq!(shape(Options { batch: 100, packets: 20, ..options() }), (50, 6));
        assert_eq!(shape(Options { rate: Some(25.0), ..options() }), (5, 1));
        assert_eq!(shape(Options { rate: Some(10_000.0), ..options() }), (50, 2));
    }

    #[test]
    fn there_are_no_more_senders_than_calls() {
        assert_eq!(shape(&Options { calls: 3, concurrency: 50, rate: Some(0.01), ..options() }), (1, 1));
    }
}
