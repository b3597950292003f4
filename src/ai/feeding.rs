//! Whether a lane is fed: pulls that fail for long, and a consumer that delivers nothing of what waits.

use std::time::{Duration, Instant};

use super::moves::Moves;
use crate::broker::{Consumer, Finding, Stall};
use crate::domain::Lane;

/// Time for which pulls may fail before the lane counts as unfed.
const FAILING_MAX: Duration = Duration::from_secs(10);
/// Time without jobs between two looks at the consumer.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Looks without a move from which on the lane counts as unfed.
const STALLED_LOOKS: u32 = 2;

/// What the pulls of one lane came to.
#[derive(Debug)]
pub(super) struct Feeding {
    moves: Moves,
    lane: Lane,
    failing_since: Option<Instant>,
    looked_at: Instant,
    stall: Stall,
}

impl Feeding {
    pub(super) fn new(moves: Moves, lane: Lane, now: Instant) -> Self {
        Self { moves, lane, failing_since: None, looked_at: now, stall: Stall::default() }
    }

    /// A pull failed.
    pub(super) fn failed(&mut self, error: &str, now: Instant) {
        let since = *self.failing_since.get_or_insert(now);
        if now.saturating_duration_since(since) > FAILING_MAX {
            self.moves.is_unfed(self.lane, format!("no jobs can be pulled: {error}"));
        }
    }

    /// A pull ended as it should, with jobs.
    pub(super) fn brought_jobs(&mut self, now: Instant) {
        self.failing_since = None;
        self.looked_at = now;
        self.stall.moved();
        self.moves.is_fed(self.lane);
    }

    /// A pull ended as it should, without a job: every few of those the consumer is looked at. The next
    /// pull asks anew; where that does not help over several looks, the consumer is made anew.
    pub(super) async fn brought_nothing(&mut self, consumer: &Consumer, now: Instant) {
        let was_failing = self.failing_since.take().is_some();
        if was_failing {
            self.moves.is_fed(self.lane);
        }
        if now.saturating_duration_since(self.looked_at) < LOOK_INTERVAL {
            return;
        }
        self.looked_at = now;
        let look = match consumer.look().await {
            Ok(look) => look,
            // The next pull finds it out, too, and says so.
            Err(error) => return tracing::debug!(%error, "the consumer could not be looked at"),
        };
        match self.stall.note(look.clone()) {
            Finding::Moves => self.moves.is_fed(self.lane),
            Finding::Stalls(looks) => {
                tracing::warn!(lane = %self.lane, pending = look.pending(), looks, "jobs wait and the consumer delivers none");
                metrics::counter!("callfleet_consumer_stalls_total", "lane" => self.lane.as_str()).increment(1);
                if looks >= STALLED_LOOKS {
                    self.moves.is_unfed(self.lane, format!("{} jobs wait and none is delivered", look.pending()));
                }
            }
            Finding::IsStuck => match consumer.make_anew(&look).await {
                Ok(()) => {
                    tracing::warn!(lane = %self.lane, pending = look.pending(), "a consumer that was stuck was made anew");
                }
                Err(error) => tracing::error!(lane = %self.lane, %error, "a consumer is stuck and cannot be made anew"),
            },
        }
    }
}
