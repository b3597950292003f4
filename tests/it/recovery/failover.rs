//! The primary dies, and a standby takes its place behind the same address.

use callfleet::store::{Purpose, Store, replication};

use super::pair::Pair;
use super::wire::Wire;
use crate::up::fleet::Fleet;
use crate::up::pbx::Pbx;
use crate::up::work::Work;
use crate::wait::until;
use crate::world::database;

/// How the primary goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Its process dies, and every connection with it.
    Killed,
    /// Its machine is gone: nobody answers, and nobody says so.
    Vanished,
}

async fn fail_over(death: Death, what: &str) {
    let mut pair = Pair::start().await;
    pair.replicate(true).await;
    let wire = Wire::to(&pair.primary.address()).await;
    let url = wire.through(&pair.primary.url("callfleet"));
    let fleet = Fleet::with(&[("DATABASE_URL", &url), ("CALLFLEET_DATABASE_TIMEOUT", "2s")]).await;
    let mut work = Work::over(fleet).await;
    work.goes_on_through(what, async |_, pbx: &Pbx| {
        let before = pbx.refused();
        // First the address leads to the standby, which only reads yet: nobody may take it for the primary.
        wire.lead_to(&pair.standby.address());
        match death {
            Death::Killed => pair.primary.kill(),
            Death::Vanished => wire.strand(),
        }
        until("packets are refused", async || pbx.refused() > before).await;
        pair.standby.promote().await;
    })
    .await;
    // What was answered 202 by the primary is on the standby.
    work.ends_in_balance().await;
    drop(wire);
    pair.end();
}

#[tokio::test]
async fn a_standby_that_is_promoted_when_its_primary_dies_is_worked_with() {
    fail_over(Death::Killed, "the primary dies").await;
}

#[tokio::test]
async fn a_standby_that_is_promoted_when_its_primary_vanishes_is_worked_with() {
    fail_over(Death::Vanished, "the primary vanishes").await;
}

#[tokio::test]
async fn standbys_that_nobody_waits_for_are_warned_of_with_what_would_be_lost() {
    let pair = Pair::start().await;
    let url = pair.primary.url("callfleet");
    let fleet = Fleet::with(&[("DATABASE_URL", &url)]).await;
    let mut worker = fleet.program("ai-worker");
    worker.says("a failover would lose").await;
    let said = worker.said();
    assert!(said.contains("second") && said.contains("synchronous_standby_names is empty"), "{said}");

    let store = Store::connect(&database(&url), "test", Purpose::Role).await.unwrap();
    let risk = replication::asynchronous(&store).await.unwrap().unwrap();
    assert_eq!((risk.standbys.as_str(), risk.why.as_str()), ("second", "synchronous_standby_names is empty"));
    pair.replicate(true).await;
    until("nothing is at risk", async || replication::asynchronous(&store).await.unwrap().is_none()).await;
    // Who may not know says nothing.
    pair.primary
        .execute("callfleet", "CREATE ROLE stranger LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger")
        .await;
    pair.replicate(false).await;
    let stranger = url.replace("callfleet@", "stranger@");
    let strangers = Store::connect(&database(&stranger), "test", Purpose::Role).await.unwrap();
    assert_eq!(replication::asynchronous(&strangers).await.unwrap(), None);
    assert!(replication::asynchronous(&store).await.unwrap().is_some());
    worker.terminate().await;
    fleet.finish().await;
    pair.end();
}

#[tokio::test]
async fn a_role_that_is_led_to_a_standby_at_its_start_says_so() {
    let pair = Pair::start().await;
    let url = pair.standby.url("callfleet");
    let options =
        callfleet::store::Options { database_timeout: std::time::Duration::from_millis(500), ..database(&url) };
    let refused = Store::connect(&options, "test", Purpose::Role).await.unwrap_err().to_string();
    assert!(refused.contains("standby"), "{refused}");
    pair.end();
}
