//! A server restarts, and dies and comes back, under a fleet at work.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use super::pbx::Pbx;
use crate::wait;

/// Senders at the same time.
const SENDERS: usize = 4;
/// Packets of each call.
const PACKETS: i64 = 5;
/// Packets that are taken before, between and after what happens.
const SOME: usize = 40;

/// A fleet at work, and how many calls it was sent.
struct Work {
    fleet: Fleet,
    pbx: Pbx,
    calls: AtomicUsize,
}

impl Work {
    async fn new() -> Self {
        let mut fleet = Fleet::bare().await;
        fleet.start("mock-ai").await;
        let ingest = fleet.start("ingest").await;
        fleet.start("ai-worker").await;
        Self { fleet, pbx: Pbx::of(&ingest), calls: AtomicUsize::new(0) }
    }

    /// Sends whole calls, several at a time, before, while and after `event` happens to the fleet.
    async fn goes_on_through(&mut self, event: impl AsyncFnOnce(&mut Fleet, &Pbx)) {
        let (over, pbx, calls) = (CancellationToken::new(), &self.pbx, &self.calls);
        let sender = async || {
            while !over.is_cancelled() {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                pbx.whole_call(&format!("call-{call}"), PACKETS).await;
            }
        };
        let senders = futures_util::future::join_all((0..SENDERS).map(|_| sender()));
        tokio::join!(senders, async {
            some_are_taken(pbx).await;
            event(&mut self.fleet, pbx).await;
            some_are_taken(pbx).await;
            over.cancel();
        });
    }

    /// Nothing is lost, nothing was started anew, and all ends well.
    async fn ends_in_balance(mut self) {
        self.fleet.balances(&self.pbx, self.calls.into_inner()).await;
        self.fleet.all_run();
        self.fleet.finish().await;
    }
}

/// Waits until more packets have been taken.
async fn some_are_taken(pbx: &Pbx) {
    let before = pbx.count();
    wait::until("packets are taken", async || pbx.count() >= before + SOME).await;
}

#[tokio::test]
async fn a_nats_server_that_restarts_or_dies_under_way_costs_nothing() {
    let mut work = Work::new().await;
    work.goes_on_through(async |fleet, _| fleet.servers.nats.restart().await.unwrap()).await;
    work.goes_on_through(async |fleet, pbx| {
        fleet.servers.nats.kill().await.unwrap();
        // Ingest needs no broker.
        some_are_taken(pbx).await;
        fleet.servers.nats.restart().await.unwrap();
    })
    .await;
    assert_eq!(work.pbx.refused(), 0);
    work.ends_in_balance().await;
}

#[tokio::test]
async fn a_postgresql_that_restarts_or_dies_under_way_costs_nothing() {
    let mut work = Work::new().await;
    work.goes_on_through(async |fleet, _| fleet.servers.postgres.restart().await.unwrap()).await;
    work.goes_on_through(async |fleet, pbx| {
        let before = pbx.refused();
        fleet.servers.postgres.kill().await.unwrap();
        // Later is said while there is nothing to store in.
        wait::until("packets are refused", async || pbx.refused() > before).await;
        fleet.servers.postgres.restart().await.unwrap();
    })
    .await;
    work.ends_in_balance().await;
}
