//! Messages, leases and workers that are lost.

use std::time::Duration;

use callfleet::domain::{AiStatus, Class, Failure, Stage};
use callfleet::reconcile::{Intervals, Reconciler, Report, run};
use callfleet::store::claim::{Claim, Claimed, claim};
use callfleet::store::record::{Ending, Record, record};
use callfleet::store::{Session, agenda};
use callfleet::wire::dead_letter::DeadLetter;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::agenda::look;
use crate::wait::{soon, until};
use crate::world::World;

/// A worker takes the call and is never heard of again.
async fn take(world: &World, key: callfleet::domain::CallKey) -> Uuid {
    let token = Uuid::new_v4();
    let wish = Claim { key, generation: 1, token, worker: "doomed".into() };
    let mut session = Session::new(world.store.clone());
    let (answers, outgoing) = claim(&mut session, &[wish], None, &world.policy).await.unwrap();
    assert!(matches!(answers[..], [Claimed::Held { .. }]), "{answers:?}");
    world.relay.send(outgoing);
    token
}

#[tokio::test]
async fn a_lost_job_is_issued_again_and_one_that_is_not_lost_does_not_multiply() {
    let world = World::new().await;
    let key = world.completed("c").await;
    world.until_relayed().await;
    let reissue = world.policy.reissue;
    let once = Report { looked_at: 1, reissued: 1, ..Report::default() };
    world.advance(reissue);
    assert_eq!(look(&world).await, once);
    world.until_relayed().await;
    assert_eq!(world.messages("CALL_WORK").await, 1);
    world.purge("CALL_WORK").await;
    assert_eq!(look(&world).await, Report::default());
    // The next look comes when it has waited as long again.
    world.advance(reissue + Duration::from_secs(1));
    assert_eq!(look(&world).await, once);
    let delivery = world.take_job().await;
    assert_eq!(delivery.job.as_ref().unwrap().call_key(), key);
    assert_eq!(world.call(key).await.version, 2, "issuing again is no change of the call");
    delivery.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_call_claimed_meanwhile_is_not_issued_again() {
    let world = World::new().await;
    let key = world.completed("c").await;
    let read = world.call(key).await;
    take(&world, key).await;
    let issue = callfleet::domain::Issue { lane: callfleet::domain::Lane::Live, replaces: true };
    let again = agenda::Again { call: &read, issue, look_at: world.store.now() };
    assert!(agenda::reissue(&world.store, &[again]).await.unwrap().is_empty());
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_call_that_kills_its_workers_is_dead_after_five() {
    let world = World::new().await;
    let key = world.completed("poison").await;
    for attempt in 1..=5 {
        // The message is in a dead worker's hands: it is replaced, not waited for.
        let _in_hand = world.take_job().await;
        take(&world, key).await;
        assert_eq!(look(&world).await, Report::default(), "attempt {attempt}");
        world.advance(world.policy.lease);
        let report = look(&world).await;
        let expected = if attempt < 5 {
            Report { looked_at: 1, reissued: 1, ..Report::default() }
        } else {
            Report { looked_at: 1, given_up: 1, ..Report::default() }
        };
        assert_eq!(report, expected, "attempt {attempt}");
    }
    let call = world.call(key).await;
    assert_eq!((call.ai_status, call.attempts.charged), (AiStatus::DeadLettered, 5));
    let (class, payload): (String, Vec<u8>) =
        sqlx::query_as("SELECT class, payload FROM dead_letters").fetch_one(&world.pool).await.unwrap();
    let letter: DeadLetter = serde_json::from_slice(&payload).unwrap();
    assert_eq!(class, "crash");
    assert!(letter.attempts.iter().all(|attempt| attempt.class.as_deref() == Some("crash")), "{letter:?}");
    assert_eq!(letter.attempts.len(), 5);
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn a_retry_that_waits_in_the_database_is_issued_when_it_is_due() {
    let world = World::new().await;
    let key = world.completed("c").await;
    world.take_job().await.ack_confirmed().await.unwrap();
    let token = take(&world, key).await;
    let failure = Failure::new(Class::Account, Stage::Ask, Some(401), "no");
    let delay = Duration::from_mins(2);
    let ending = Ending::Failed { failure, delay };
    let outcome = Record { key, token, worker: "w".into(), sent: None, ending };
    let mut session = Session::new(world.store.clone());
    let (answers, outgoing) = record(&mut session, &[outcome.into()], &world.policy).await.unwrap();
    assert!(answers[0].is_ok());
    world.relay.send(outgoing);
    world.advance(delay.saturating_sub(Duration::from_secs(1)));
    assert_eq!(look(&world).await, Report::default());
    world.advance(Duration::from_secs(1));
    assert_eq!(look(&world).await, Report { looked_at: 1, reissued: 1, ..Report::default() });
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_work_stream_that_is_lost_as_a_whole_is_filled_again_at_once() {
    let world = World::new().await;
    for n in 0..5 {
        world.completed(&format!("call {n}")).await;
    }
    world.until_relayed().await;
    let stop = CancellationToken::new();
    let reconciler = Reconciler {
        store: world.store.clone(),
        broker: world.broker.clone(),
        relay: world.relay.clone(),
        policy: world.policy.clone(),
    };
    let short = Duration::from_millis(100);
    let intervals = Intervals { reconcile: short, sweep: Duration::from_mins(10), streams: short };
    let mut running = JoinSet::new();
    running.spawn(run(reconciler, intervals, stop.clone()));
    // Seen once, so that its loss is noticed.
    world.until_messages("CALL_WORK", 5).await;
    let before = world.broker.identities().await.unwrap();
    // The reconciler has seen the stream once two of its looks are over.
    for _ in 0..2 {
        let mut tick = tokio::time::interval(short * 2);
        tick.tick().await;
        tick.tick().await;
    }
    world.delete_stream("CALL_WORK").await;
    until("the jobs of a new stream", async || {
        let found = world.broker.identities().await;
        found.is_ok_and(|found| found.work != before.work && found.work_messages == 5)
    })
    .await;
    stop.cancel();
    soon("the reconciler's end", running.join_next()).await.unwrap().unwrap().unwrap();
    world.purge("CALL_WORK").await;
    world.finish().await;
}
