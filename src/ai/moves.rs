//! Whether jobs move: what `/readyz` says of this worker's own work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::domain::Lane;
use crate::service::health::Health;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time in which the database takes no claim and no record, while there are jobs, before they stand still.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// The jobs in hand, when one began or ended last, and which lanes get none. A clone is the same count.
#[derive(Clone, Debug)]
pub(super) struct Moves {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    running: usize,
    moved_at: Instant,
    /// Why a lane gets no jobs.
    unfed: BTreeMap<Lane, String>,
}

/// A job in hand; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    moves: Moves,
}

impl Moves {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: Arc::new(Mutex::new(State { running: 0, moved_at: now, unfed: BTreeMap::new() })) }
    }

    pub(super) fn begin(&self) -> Running {
        self.moved(|running| running.saturating_add(1));
        Running { moves: self.clone() }
    }

    /// The lane gets jobs, or there are none for it.
    pub(super) fn is_fed(&self, lane: Lane) {
        self.state().unfed.remove(&lane);
    }

    /// The lane gets no jobs, and it is not for lack of them as far as anybody can tell.
    pub(super) fn is_unfed(&self, lane: Lane, why: String) {
        self.state().unfed.insert(lane, why);
    }

    /// Why jobs do not move; none when all is well.
    fn trouble(&self, patience: Duration, away_for: Option<Duration>, now: Instant) -> Option<String> {
        let state = self.state();
        let running = state.running;
        if running > 0 && now.saturating_duration_since(state.moved_at) > patience {
            return Some(format!("{running} jobs in hand and none moves"));
        }
        if running > 0 && away_for.is_some_and(|away| away > AWAY_MAX) {
            return Some(format!("{running} jobs in hand and PostgreSQL takes nothing from them"));
        }
        state.unfed.iter().map(|(lane, why)| format!("lane {lane}: {why}")).next()
    }

    fn moved(&self, running: impl FnOnce(usize) -> usize) {
        let mut state = self.state();
        state.running = running(state.running);
        state.moved_at = Instant::now();
        metrics::gauge!("callfleet_jobs_in_hand").set(u32::try_from(state.running).map_or(f64::MAX, f64::from));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.moves.moved(|running| running.saturating_sub(1));
    }
}

/// Reports the part `jobs` to `health` until `end`. It fails when there are jobs in hand and none has
/// begun or ended for longer than `patience`, when the database takes nothing from them, and when a
/// lane cannot be fed. A worker without jobs is well, and so is one whose jobs fail for the service's
/// sake: they come and go.
pub(super) async fn watch(
    moves: Moves,
    context: Arc<Context>,
    patience: Duration,
    health: Health,
    end: CancellationToken,
) {
    loop {
        let now = Instant::now();
        match moves.trouble(patience, context.away.failing_for(now), now) {
            None => health.ok("jobs"),
            Some(trouble) => health.failing("jobs", trouble),
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

    use super::{AWAY_MAX, Moves};
    use crate::domain::Lane;

    const PATIENCE: Duration = Duration::from_mins(1);

    #[test]
    fn jobs_are_stuck_only_while_there_are_some_and_none_moves() {
        let moves = Moves::new(Instant::now());
        let later = Instant::now() + PATIENCE * 2;
        assert_eq!(moves.trouble(PATIENCE, None, later), None);
        let job = moves.begin();
        assert_eq!(moves.trouble(PATIENCE, None, Instant::now()), None);
        assert!(moves.trouble(PATIENCE, None, later).is_some());
        drop(job);
        assert_eq!(moves.trouble(PATIENCE, None, later), None);
    }

    #[test]
    fn a_database_that_takes_nothing_is_trouble_only_for_whoever_has_jobs() {
        let moves = Moves::new(Instant::now());
        let away = Some(AWAY_MAX * 2);
        assert_eq!(moves.trouble(PATIENCE, away, Instant::now()), None);
        let _job = moves.begin();
        assert_eq!(moves.trouble(PATIENCE, Some(AWAY_MAX / 2), Instant::now()), None);
        assert!(moves.trouble(PATIENCE, away, Instant::now()).is_some());
    }

    #[test]
    fn a_lane_without_food_is_named_until_it_has_some() {
        let moves = Moves::new(Instant::now());
        moves.is_unfed(Lane::Replay, "the consumer is gone".to_owned());
        moves.is_fed(Lane::Live);
        let trouble = moves.trouble(PATIENCE, None, Instant::now()).unwrap();
        assert!(trouble.contains("replay") && trouble.contains("the consumer is gone"), "{trouble}");
        moves.is_fed(Lane::Replay);
        assert_eq!(moves.trouble(PATIENCE, None, Instant::now()), None);
    }
}
