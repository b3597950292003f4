//! Whether jobs move: what `/readyz` says of this worker's own work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::service::health::Health;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The jobs in hand, and when one began or ended last. A clone is the same count.
#[derive(Clone, Debug)]
pub(super) struct Moves {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    running: usize,
    moved_at: Instant,
}

/// A job in hand; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    moves: Moves,
}

impl Moves {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: Arc::new(Mutex::new(State { running: 0, moved_at: now })) }
    }

    pub(super) fn begin(&self) -> Running {
        self.moved(|running| running.saturating_add(1));
        Running { moves: self.clone() }
    }

    /// How many jobs are in hand that have not moved for so long; none when all is well.
    fn stuck(&self, patience: Duration, now: Instant) -> Option<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stuck = state.running > 0 && now.saturating_duration_since(state.moved_at) > patience;
        is_stuck.then_some(state.running)
    }

    fn moved(&self, running: impl FnOnce(usize) -> usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { running: running(state.running), moved_at: Instant::now() };
        metrics::gauge!("callfleet_jobs_in_hand").set(u32::try_from(state.running).map_or(f64::MAX, f64::from));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.moves.moved(|running| running.saturating_sub(1));
    }
}

/// Reports the part `jobs` to `health` until `end`: it fails when there are jobs in hand and none
/// has begun or ended for longer than `patience`.
pub(super) async fn watch(moves: Moves, patience: Duration, health: Health, end: CancellationToken) {
    loop {
        match moves.stuck(patience, Instant::now()) {
            None => health.ok("jobs"),
            Some(running) => health.failing("jobs", format!("{running} jobs in hand and none moves")),
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Moves;

    #[test]
    fn jobs_are_stuck_only_while_there_are_some_and_none_moves() {
        let patience = Duration::from_mins(1);
        let moves = Moves::new(Instant::now());
        let later = Instant::now() + patience * 2;
        assert_eq!(moves.stuck(patience, later), None);
        let job = moves.begin();
        assert_eq!(moves.stuck(patience, Instant::now()), None);
        assert_eq!(moves.stuck(patience, later), Some(1));
        drop(job);
        assert_eq!(moves.stuck(patience, later), None);
    }
}
