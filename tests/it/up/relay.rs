//! The way from commit to broker, cut.

use super::fleet::Fleet;
use super::pbx::Pbx;
use crate::wait;

const CALLS: usize = 20;

#[tokio::test]
async fn what_an_ingest_committed_and_never_announced_is_announced_by_a_worker() {
    let mut fleet = Fleet::bare().await;
    fleet.servers.nats.stop().await.unwrap();
    let mut ingest = fleet.program("ingest");
    let pbx = Pbx::of(&ingest.address().await);
    for call in 0..CALLS {
        let call = format!("call-{call}");
        for sequence in 1..=2 {
            assert!(pbx.packet(&call, sequence, sequence == 2).await, "taken at once, with no broker");
        }
    }
    // The end of a call with all its packets is noticed a moment after the 202.
    wait::until("all calls are complete", async || {
        ingest.is_running();
        fleet.column("SELECT count(*) FROM calls WHERE state = 'COMPLETED'").await == [CALLS]
    })
    .await;
    ingest.kill().await;
    // The first packet's change of each call, its completion, and its job.
    assert_eq!(fleet.column("SELECT count(*) FROM outbox").await, [3 * CALLS]);

    fleet.servers.nats.restart().await.unwrap();
    fleet.start("mock-ai").await;
    fleet.start("ai-worker").await;
    fleet.balances(&pbx, CALLS).await;
    fleet.finish().await;
}
