//! A fleet at work while something happens to it, and how long it takes to recover.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use super::pbx::Pbx;
use super::supervisor::Supervisor;
use crate::wait;

/// Senders at the same time.
const SENDERS: usize = 4;
/// Packets of each call.
const PACKETS: i64 = 5;
/// Packets that are taken before, between and after what happens.
const SOME: usize = 40;
/// Time after which all work again once what they need is back.
const RECOVERY: Duration = Duration::from_secs(20);

/// A fleet at work, a supervisor who watches it, and how many calls it was sent.
pub(crate) struct Work {
    pub(crate) fleet: Fleet,
    pub(crate) pbx: Pbx,
    pub(crate) worker: Pbx,
    supervisor: Supervisor,
    calls: AtomicUsize,
    recovery: Duration,
}

impl Work {
    pub(crate) async fn new() -> Self {
        Self::over(Fleet::bare().await).await
    }

    /// One of each role, in `fleet`.
    pub(crate) async fn over(mut fleet: Fleet) -> Self {
        fleet.start("mock-ai").await;
        let ingest = fleet.start("ingest").await;
        let worker = fleet.start("ai-worker").await;
        let notifier = fleet.start("notifier").await;
        let supervisor = Supervisor::live_at(&notifier).await;
        let (pbx, worker) = (Pbx::of(&ingest), Pbx::of(&worker));
        Self { fleet, pbx, worker, supervisor, calls: AtomicUsize::new(0), recovery: RECOVERY }
    }

    /// Gives it longer to recover.
    pub(crate) fn within(mut self, recovery: Duration) -> Self {
        self.recovery = recovery;
        self
    }

    /// Sends whole calls, several at a time, before, while and after `event` happens to the fleet, after
    /// which a new call must get through to the supervisor's screen in time.
    pub(crate) async fn goes_on_through(&mut self, what: &str, event: impl AsyncFnOnce(&mut Fleet, &Pbx)) {
        let (over, pbx, calls) = (CancellationToken::new(), &self.pbx, &self.calls);
        let sender = async || {
            while !over.is_cancelled() {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                pbx.whole_call(&format!("call-{call}"), PACKETS).await;
            }
        };
        let senders = futures_util::future::join_all((0..SENDERS).map(|_| sender()));
        let (fleet, supervisor) = (&mut self.fleet, &mut self.supervisor);
        tokio::join!(senders, async {
            some_are_taken(pbx).await;
            event(fleet, pbx).await;
            let began = Instant::now();
            let call = format!("call-{}", calls.fetch_add(1, Ordering::Relaxed));
            pbx.whole_call(&call, PACKETS).await;
            let taken = began.elapsed();
            wait::until("the first call is archived", async || pbx.state(&call).await == "ARCHIVED").await;
            let archived = began.elapsed();
            supervisor.sees_archived(&call).await;
            let seen = began.elapsed();
            println!("{what}: taken after {taken:.1?}, archived after {archived:.1?}, seen after {seen:.1?}");
            assert!(seen < self.recovery, "{what}: recovered after {seen:?}");
            some_are_taken(pbx).await;
            over.cancel();
        });
    }

    /// Nothing is lost, nothing was started anew, and all ends well.
    pub(crate) async fn ends_in_balance(mut self) {
        drop(self.supervisor);
        self.fleet.balances(&self.pbx, self.calls.into_inner()).await;
        self.fleet.all_run();
        self.fleet.finish().await;
    }
}

/// Waits until more packets have been taken.
pub(crate) async fn some_are_taken(pbx: &Pbx) {
    let before = pbx.count();
    wait::until("packets are taken", async || pbx.count() >= before + SOME).await;
}
