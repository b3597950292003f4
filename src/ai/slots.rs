//! How many jobs run at a time, and which lane may have how many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::domain::Lane;

/// The slots of a worker. A clone is the same slots.
///
/// The live lane takes all that are free while its jobs pile up. Otherwise it leaves a few for the
/// replay lane, which never holds more than a quarter and gets nothing while live calls wait.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    /// The replay lane's share of `all`.
    replay: Arc<Semaphore>,
    live_calls_wait: Arc<AtomicBool>,
    live_calls_gone: Arc<Notify>,
}

/// Slots that a lane may fill.
#[derive(Debug)]
pub(super) struct Reserved {
    slots: OwnedSemaphorePermit,
    share: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self {
            all: permits(count),
            replay: permits((count / 4).max(1)),
            live_calls_wait: Arc::default(),
            live_calls_gone: Arc::default(),
        }
    }

    /// As many free slots as the lane may have, at least one: waits for it.
    pub(super) async fn reserve(&self, lane: Lane) -> Option<Reserved> {
        match lane {
            Lane::Live => {
                let slots = take_one(&self.all).await?;
                let free = self.all.available_permits();
                let others = self.replay.available_permits().min(free / 4);
                let wanted = if self.live_calls_wait.load(Ordering::Relaxed) { free } else { free - others };
                Some(Reserved { slots: with_more(slots, &self.all, wanted), share: None })
            }
            Lane::Replay => {
                let share = take_one(&self.replay).await?;
                let slots = loop {
                    let gone = self.live_calls_gone.notified();
                    if !self.live_calls_wait.load(Ordering::Relaxed) {
                        break take_one(&self.all).await?;
                    }
                    gone.await;
                };
                let wanted = self.replay.available_permits();
                let slots = with_more(slots, &self.all, wanted);
                let share = with_more(share, &self.replay, slots.num_permits() - 1);
                Some(Reserved { slots, share: Some(share) })
            }
        }
    }

    /// Tells whether a pull of the live lane brought as many jobs as it asked for.
    pub(super) fn pulled(&self, lane: Lane, was_filled: bool) {
        if lane == Lane::Live {
            self.live_calls_wait.store(was_filled, Ordering::Relaxed);
            if !was_filled {
                self.live_calls_gone.notify_waiters();
            }
        }
    }
}

impl Reserved {
    pub(super) fn count(&self) -> usize {
        self.slots.num_permits()
    }

    /// One of them, for one job; none when all are given out.
    pub(super) fn split_one(&mut self) -> Option<Self> {
        let slots = self.slots.split(1)?;
        let share = match &mut self.share {
            Some(share) => Some(share.split(1)?),
            None => None,
        };
        Some(Self { slots, share })
    }
}

async fn take_one(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.ok()
}

/// `permit` and as many of `wanted` more as are free.
fn with_more(mut permit: OwnedSemaphorePermit, semaphore: &Arc<Semaphore>, wanted: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(wanted.min(semaphore.available_permits())).unwrap_or(u32::MAX);
    if count > 0
        && let Ok(more) = Arc::clone(semaphore).try_acquire_many_owned(count)
    {
        permit.merge(more);
    }
    permit
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::Slots;
    use crate::domain::Lane;

    #[tokio::test]
    async fn live_calls_leave_a_quarter_until_they_pile_up() {
        let slots = Slots::new(16);
        let live = slots.reserve(Lane::Live).await.unwrap();
        let replay = slots.reserve(Lane::Replay).await.unwrap();
        assert_eq!((live.count(), replay.count()), (13, 3));
        assert!(slots.reserve(Lane::Replay).now_or_never().is_none());
        drop((live, replay));
        slots.pulled(Lane::Live, true);
        assert!(slots.reserve(Lane::Replay).now_or_never().is_none());
        assert_eq!(slots.reserve(Lane::Live).await.unwrap().count(), 16);
    }

    #[tokio::test]
    async fn replay_gets_its_turn_when_the_live_calls_are_gone_and_holds_a_quarter_at_most() {
        let slots = Slots::new(16);
        slots.pulled(Lane::Live, true);
        let waiting = slots.reserve(Lane::Replay);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        slots.pulled(Lane::Live, false);
        let mut held = waiting.await.unwrap();
        assert_eq!(held.count(), 4);
        assert!(slots.reserve(Lane::Replay).now_or_never().is_none());
        let running = held.split_one().unwrap();
        drop(held);
        assert_eq!(slots.reserve(Lane::Replay).await.unwrap().count(), 3);
        drop(running);
        assert_eq!(slots.reserve(Lane::Replay).await.unwrap().count(), 4);
    }

    #[tokio::test]
    async fn a_single_slot_serves_both_lanes_in_turn() {
        let slots = Slots::new(1);
        let live = slots.reserve(Lane::Live).await.unwrap();
        assert_eq!(live.count(), 1);
        let replay = slots.reserve(Lane::Replay);
        tokio::pin!(replay);
        assert!(futures_util::poll!(&mut replay).is_pending());
        drop(live);
        assert_eq!(replay.await.unwrap().count(), 1);
    }
}
