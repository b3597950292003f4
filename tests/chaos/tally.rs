//! What became of the packets of a round, counted at their first try.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time that is told apart.
const LATENCY_MAX_MICROS: u64 = 120_000_000;

/// How a first try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Accepted,
    /// 503 or 429
    Refused,
    /// The connection was refused or broke
    Lost,
    /// No answer in time
    Silent,
}

/// First tries by how they ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    pub(crate) all: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) silent: u64,
}

/// One round's counts.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Every packet of the round
    pub(crate) whole: Tries,
    /// Those first sent while exactly one store was down
    pub(crate) one_store_down: Tries,
    /// The slowest answer to one of those
    pub(crate) slowest: Duration,
    pub(crate) spooled: u64,
    /// What went wrong beyond counting: a status that should not be, a 503 without Retry-After.
    pub(crate) problems: Vec<String>,
    latency: Histogram<u64>,
}

/// Problems kept of one round.
const PROBLEMS_MAX: usize = 20;

impl Tries {
    fn count(&mut self, first: First) {
        self.all += 1;
        match first {
            First::Accepted => self.accepted += 1,
            First::Refused => self.refused += 1,
            First::Lost => self.lost += 1,
            First::Silent => self.silent += 1,
        }
    }

    /// The share that was answered 202 at once; none when there were none.
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 packets")]
    pub(crate) fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.accepted as f64 / self.all as f64)
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, 2);
        Self {
            whole: Tries::default(),
            one_store_down: Tries::default(),
            slowest: Duration::ZERO,
            spooled: 0,
            problems: Vec::new(),
            latency: latency.unwrap_or_else(|_| unreachable!("the bounds are fixed and fit")),
        }
    }

    pub(crate) fn count(&mut self, first: First, one_store_down: bool, latency: Duration) {
        self.whole.count(first);
        if one_store_down {
            self.one_store_down.count(first);
            self.slowest = self.slowest.max(latency);
        }
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text());
        }
    }

    /// The latency that the given share of first tries stayed within.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(share))
    }
}
