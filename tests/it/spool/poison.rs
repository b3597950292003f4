//! Messages of the spool that come twice, cannot be read, or cannot be stored.

use callfleet::domain::Metadata;
use callfleet::reconcile::compare;
use callfleet::wire::spool::{Spooled, SpooledEntry};
use chrono::{SubsecRound, Utc};
use serde_json::json;

use super::scene::{Scene, spool, spooled};

#[tokio::test]
async fn a_message_that_comes_twice_changes_nothing() {
    let scene = Scene::new().await;
    let at = Utc::now().trunc_subsecs(6);
    let entries = [spooled("c", 1, at), spooled("c", 2, at)];
    for _ in 0..3 {
        spool(&scene.world, &entries).await;
    }
    scene.until_drained().await;
    assert_eq!(scene.world.value("SELECT count(*) FROM packets").await, 2);
    assert_eq!(scene.world.value("SELECT count(*) FROM packet_copies").await, 0);
    // A true copy, of another moment, is one.
    spool(&scene.world, &[spooled("c", 1, at + chrono::TimeDelta::milliseconds(1))]).await;
    scene.until_drained().await;
    assert_eq!(scene.world.value("SELECT copies FROM packet_copies").await, 1);
    scene.world.abandon().await;
}

#[tokio::test]
async fn what_cannot_be_read_or_stored_is_laid_down_once_and_its_neighbours_are_stored() {
    let scene = Scene::new().await;
    let refused = SpooledEntry {
        what: Spooled::Packet {
            sequence: 2,
            data: "word".into(),
            sent_at: None,
            end: None,
            metadata: std::borrow::Cow::Owned(Metadata {
                // No door lets this in, and no text column holds it.
                queue: Some("a\0b".to_owned()),
                ..Metadata::default()
            }),
        },
        ..spooled("bad", 2, Utc::now())
    };
    spool(&scene.world, &[spooled("good", 1, Utc::now()), refused, spooled("good", 2, Utc::now())]).await;
    for _ in 0..2 {
        scene.world.publish("call.spool.elsewhere", "no batch at all").await;
        scene.world.publish("call.spool.elsewhere", r#"{"v":9,"entries":[]}"#).await;
    }
    scene.until_drained().await;
    assert_eq!(scene.world.value("SELECT count(*) FROM packets WHERE sequence IN (1, 2)").await, 2);
    assert_eq!(scene.world.value("SELECT count(*) FROM spool_letters").await, 3);
    scene.world.until_relayed().await;
    scene.world.until_messages("CALL_DLQ", 3).await;
    let subjects = "SELECT jsonb_agg(DISTINCT split_part(subject, '.', 3)) FROM spool_letters";
    assert_eq!(scene.world.value(subjects).await, json!(["unreadable"]));

    // One to one also after the stream was lost.
    scene.world.delete_stream("CALL_DLQ").await;
    callfleet::broker::topology::ensure(&scene.world.broker).await.unwrap();
    let compared = compare(&scene.world.store, &scene.world.broker, &scene.world.relay).await.unwrap();
    assert_eq!((compared.sent_again, compared.deleted), (3, 0));
    scene.world.until_messages("CALL_DLQ", 3).await;
    scene.world.abandon().await;
}

#[tokio::test]
async fn an_end_that_was_spooled_before_its_call_waits_for_it() {
    let scene = Scene::new().await;
    let end = Spooled::End { reason: "hangup".into(), final_sequence: Some(1) };
    spool(&scene.world, &[SpooledEntry { what: end, ..spooled("c", 1, Utc::now()) }]).await;
    spool(&scene.world, &[spooled("c", 1, Utc::now())]).await;
    scene.until_drained().await;
    scene.world.until("SELECT state FROM calls", "COMPLETED").await;
    scene.world.abandon().await;
}
