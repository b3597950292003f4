//! While packets wait in the spool, nothing happens to a call that they might change.

use std::time::Duration;

use callfleet::domain::Refused;
use callfleet::reconcile::{Report, tick};
use callfleet::spool::{Waiting, waiting};
use callfleet::store::Session;
use callfleet::store::claim::{Claim, Claimed, claim};
use chrono::{TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::scene::{Scene, spool, spooled};
use crate::ingest::client::packet;
use crate::world::{World, ingest_options};

async fn look(world: &World) -> Report {
    tick(&world.store, &world.broker, &world.relay, &world.policy).await.unwrap()
}

#[tokio::test]
async fn no_call_is_settled_or_idled_while_packets_wait_unless_it_is_whole() {
    let world = World::new().await;
    world.is_storing().await;
    let settling = world.open("settling", &[1, 3]).await;
    world.end(settling, Some(4)).await;
    let whole = world.open("whole", &[1, 2]).await;
    world.end(whole, Some(2)).await;
    world.open("idle", &[1]).await;
    spool(&world, &[spooled("settling", 2, Utc::now())]).await;
    world.advance(world.policy.idle_timeout + Duration::from_secs(1));
    assert_eq!(look(&world).await, Report { looked_at: 3, completed: 1, postponed: 2, ..Report::default() });
    world.purge("CALL_SPOOL").await;
    world.advance(Duration::from_secs(2));
    assert_eq!(look(&world).await.completed, 2);
    world.abandon().await;
}

#[tokio::test]
async fn a_call_that_ended_after_the_spool_began_is_not_claimed() {
    let world = World::new().await;
    let before = world.completed("before").await;
    world.advance(Duration::from_mins(1));
    let after = world.completed("after").await;
    let since = world.store.now() - TimeDelta::seconds(30);
    let wish = |key| Claim { key, generation: 1, token: Uuid::new_v4(), worker: "w".into() };
    let mut session = Session::new(world.store.clone());
    let wishes = [wish(before), wish(after)];
    let (answers, _) = claim(&mut session, &wishes, Some(since), &world.policy).await.unwrap();
    assert!(
        matches!(answers[..], [Claimed::Held { .. }, Claimed::Refused(Refused::Spooled)]),
        "older calls go on, later ones wait: {answers:?}"
    );
    world.abandon().await;
}

#[tokio::test]
async fn what_waits_is_known_or_said_to_be_unknown() {
    let world = World::new().await;
    assert_eq!(waiting(&world.broker).await, Waiting::Nothing);
    spool(&world, &[spooled("c", 1, Utc::now())]).await;
    assert!(
        matches!(waiting(&world.broker).await, Waiting::Since(1, since) if Utc::now() - since < TimeDelta::minutes(1))
    );
    world.purge("CALL_SPOOL").await;
    assert_eq!(waiting(&world.broker).await, Waiting::Nothing);
    world.abandon().await;
}

#[tokio::test]
async fn calls_that_were_merely_cut_off_are_not_idle() {
    let scene = Scene::cold(World::new().await, &ingest_options(), true).await;
    scene.until_storing().await;
    packet(&scene.doors, "c", 1, "one").await;
    let idle = scene.world.policy.idle_timeout.as_secs();
    // An outage of both stores, longer than a call may be silent, that began before now.
    let long_ago = format!("now() - interval '{} s'", idle + 60);
    scene.postgres.cut();
    for table in ["packets SET received_at", "calls SET created_at", "calls SET reconcile_at"] {
        scene.world.execute(&format!("UPDATE {table} = {long_ago}")).await.unwrap();
    }
    let silent = format!("UPDATE ingests SET storing_since = {long_ago}, seen_at = {long_ago}");
    scene.world.execute(&silent).await.unwrap();
    // Nobody has said yet that packets can be stored again.
    assert_eq!(look(&scene.world).await, Report { looked_at: 1, postponed: 1, ..Report::default() });
    scene.postgres.mend();
    scene.until_storing().await;
    scene.world.execute("UPDATE calls SET reconcile_at = now()").await.unwrap();
    assert_eq!(look(&scene.world).await, Report { looked_at: 1, postponed: 1, ..Report::default() });
    let due = "SELECT extract(epoch FROM reconcile_at - now()) FROM calls";
    let due = scene.world.value(due).await.as_f64().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "minutes in seconds")]
    let idle = idle as f64;
    assert!(due > idle - 10.0, "silence counts anew: due in {due} s");
    scene.world.abandon().await;
}

#[tokio::test]
async fn what_is_in_the_spool_is_not_missing() {
    let scene = Scene::new().await;
    let before = missing();
    scene.postgres.cut();
    packet(&scene.doors, "c", 1, "one").await;
    packet(&scene.doors, "c", 2, "two").await;
    // Another ingest stores the third; this one sees it with the first two outside.
    scene.postgres.mend();
    crate::wait::until("a packet is stored at once", async || {
        packet(&scene.doors, "c", 3, "three").await.text("durability") == "stored"
    })
    .await;
    scene.until_drained().await;
    assert_eq!(scene.world.value("SELECT count(*) FROM packets").await, Value::from(3));
    assert_eq!(missing(), before, "no gap was counted");
    scene.world.abandon().await;
}

/// Sequences that this process has counted as missing.
fn missing() -> Option<String> {
    callfleet::service::telemetry::install_metrics().unwrap();
    let metrics = callfleet::service::telemetry::render_metrics();
    metrics.lines().find(|line| line.starts_with("callfleet_missing_packets_total")).map(str::to_owned)
}
