//! A server restarts, and dies and comes back, under a fleet at work.

use super::work::{Work, some_are_taken};
use crate::wait;

#[tokio::test]
async fn a_nats_server_that_restarts_or_dies_under_way_costs_nothing() {
    let mut work = Work::new().await;
    work.goes_on_through("NATS restarts", async |fleet, _| fleet.servers.nats.restart().await.unwrap()).await;
    work.goes_on_through("NATS dies and comes back", async |fleet, pbx| {
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
    work.goes_on_through("PostgreSQL restarts", async |fleet, _| fleet.servers.postgres.restart().await.unwrap()).await;
    work.goes_on_through("PostgreSQL dies and comes back", async |fleet, pbx| {
        let before = pbx.refused();
        fleet.servers.postgres.kill().await.unwrap();
        // Later is said while there is nothing to store in.
        wait::until("packets are refused", async || pbx.refused() > before).await;
        fleet.servers.postgres.restart().await.unwrap();
    })
    .await;
    work.ends_in_balance().await;
}
