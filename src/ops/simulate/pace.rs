//! When the next packet may go, so that all senders together keep one rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A timetable that does not wait for answers: who is late does not push back those behind.
#[derive(Debug)]
pub(super) struct Pace {
    started_at: Instant,
    interval: Option<Duration>,
    taken: AtomicU64,
    worst_delay_ms: AtomicU64,
}

impl Pace {
    /// `per_second` packets a second, or as they come.
    pub(super) fn new(per_second: Option<f64>, started_at: Instant) -> Self {
        let interval = per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { started_at, interval, taken: AtomicU64::new(0), worst_delay_ms: AtomicU64::new(0) }
    }

    /// Waits for the turn of the next `packets` packets.
    pub(super) async fn turn(&self, packets: usize) {
        let Some(interval) = self.interval else { return };
        let place = self.taken.fetch_add(packets as u64, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "packets of a run are far below 2^53")]
        let due = self.started_at + interval.mul_f64(place as f64);
        let now = Instant::now();
        if due > now {
            tokio::time::sleep_until(due).await;
        } else {
            let delay_ms = u64::try_from((now - due).as_millis()).unwrap_or(u64::MAX);
            self.worst_delay_ms.fetch_max(delay_ms, Ordering::Relaxed);
        }
    }

    /// How far the packets fell behind the timetable at worst.
    pub(super) fn worst_delay(&self) -> Duration {
        Duration::from_millis(self.worst_delay_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn packets_go_at_the_rate_and_a_late_one_catches_up() {
        let started_at = Instant::now();
        let pace = Pace::new(Some(10.0), started_at);
        // The timer rounds up to the next millisecond.
        let tenths = || (started_at.elapsed().as_millis() + 5) / 10;
        for _ in 0..5 {
            pace.turn(1).await;
        }
        assert_eq!(tenths(), 40);
        tokio::time::advance(Duration::from_millis(400)).await;
        pace.turn(1).await;
        pace.turn(2).await;
        assert_eq!(tenths(), 80);
        assert_eq!(pace.worst_delay().as_millis() / 10, 30);
        pace.turn(1).await;
        assert_eq!(tenths(), 80);
        pace.turn(1).await;
        assert_eq!(tenths(), 90);
    }
}
