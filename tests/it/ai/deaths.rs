//! Workers that die, sleep, stop or come second.

use std::time::Duration;

use callfleet::ai::record::record;
use callfleet::ai::{Verdict, job as steps};
use callfleet::domain::{AiStatus, CallKey, State};
use callfleet::store::record::Ending;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::scene::{Ai, Hand, attempts, charged, job};
use crate::wait::until;
use crate::world::World;

/// Where a worker dies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum After {
    Claim,
    Load,
    Ask,
}

/// Takes a job up to a step, and forgets everything.
async fn die(hand: &Hand, key: CallKey, after: After) {
    let job = job(key);
    let held = steps::claim(&hand.context, &job).await.unwrap();
    if after >= After::Load {
        let loaded = steps::load(&hand.context, &job, &held).await.unwrap();
        if after >= After::Ask {
            steps::ask(&hand.context, &loaded).await;
        }
    }
}

async fn another_takes_over(after: After) {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    let (first, second) = (Hand::new(&world, "w1", ai.address), Hand::new(&world, "w2", ai.address));
    let key = world.completed("c").await;
    let delivery = world.take_job().await;

    die(&first, key, after).await;
    drop(first);
    let Verdict::RetryAfter(left) = second.run(&job(key)).await else { panic!("the lease stands") };
    assert!(left <= world.policy.lease);
    world.advance(left);
    assert_eq!(second.run(&job(key)).await, Verdict::Done);
    assert_eq!(attempts(&world, key).await, charged(&["crash", "done"]));
    let call = world.call(key).await;
    assert_eq!((call.state, call.attempts.charged), (State::Archived, 2));
    assert_eq!(world.count("SELECT count(*) FROM results").await, 1);
    delivery.ack_confirmed().await.unwrap();
    drop(second);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_dies_after_its_claim_is_replaced_when_its_lease_is_over() {
    another_takes_over(After::Claim).await;
}

#[tokio::test]
async fn a_worker_that_dies_before_it_asks_is_replaced_when_its_lease_is_over() {
    another_takes_over(After::Load).await;
}

#[tokio::test]
async fn a_worker_that_dies_before_it_records_is_replaced_when_its_lease_is_over() {
    another_takes_over(After::Ask).await;
}

#[tokio::test]
async fn the_late_result_of_a_worker_that_slept_changes_nothing() {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    let (sleeper, other) = (Hand::new(&world, "sleeper", ai.address), Hand::new(&world, "other", ai.address));
    let key = world.completed("c").await;
    let delivery = world.take_job().await;

    let held = steps::claim(&sleeper.context, &job(key)).await.unwrap();
    world.advance(world.policy.lease);
    let taken = steps::claim(&other.context, &job(key)).await.unwrap();
    let before = world.call(key).await;
    let late = || Ending::Answered { http_status: 200, transcript: "late".to_owned(), response: "{}".to_owned() };
    let go_on = CancellationToken::new();
    let refused = record(&sleeper.context, &held, None, late(), &go_on).await;
    assert!(matches!(refused, Verdict::Leave(_)), "{refused:?}");
    assert_eq!(world.call(key).await, before);
    // The other's work is not touched by it.
    let mine = Ending::Answered { http_status: 200, transcript: "mine".to_owned(), response: "{}".to_owned() };
    assert_eq!(record(&other.context, &taken, None, mine, &go_on).await, Verdict::Done);
    let again = record(&sleeper.context, &held, None, late(), &go_on).await;
    assert!(matches!(again, Verdict::Leave(_)), "{again:?}");
    let stored: String = sqlx::query_scalar("SELECT transcript FROM results").fetch_one(&world.pool).await.unwrap();
    assert_eq!(stored, "mine");
    delivery.ack_confirmed().await.unwrap();
    drop((held, taken, sleeper, other));
    world.finish().await;
}

#[tokio::test]
async fn a_job_delivered_twice_is_asked_once() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "latency_ms": 300 })).await;
    let (first, second) = (Hand::new(&world, "w1", ai.address), Hand::new(&world, "w2", ai.address));
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    let (job_1, job_2, job_3) = (job(key), job(key), job(key));
    // Two at one worker share a batch, the third is at another.
    let (one, two, three) = tokio::join!(first.run(&job_1), first.run(&job_2), second.run(&job_3));
    let verdicts = [one, two, three];
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Done).count(), 1, "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|v| matches!(v, Verdict::RetryAfter(_))).count(), 2, "{verdicts:?}");
    assert_eq!(second.run(&job(key)).await, Verdict::Drop("the call needs no attempt"));
    assert_eq!(ai.stats().await.requests, 1);
    delivery.ack_confirmed().await.unwrap();
    drop((first, second));
    world.finish().await;
}

#[tokio::test]
async fn a_request_is_aborted_when_its_lease_is_lost() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "mode": "hang" })).await;
    let (slow, other) = (Hand::new(&world, "slow", ai.address), Hand::new(&world, "other", ai.address));
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    let takes_over = async {
        until("the request", async || ai.stats().await.in_flight == 1).await;
        // While it is renewed nobody else gets it.
        assert!(slow.context.leases().renew(&world.store, world.policy.lease).await);
        assert_eq!(slow.context.leases().count(), 1);
        world.advance(world.policy.lease);
        let held = steps::claim(&other.context, &job(key)).await.unwrap();
        slow.context.leases().renew(&world.store, world.policy.lease).await;
        held
    };
    let (verdict, held) =
        tokio::join!(async { steps::run(&slow.context, &job(key), &CancellationToken::new()).await }, takes_over);
    assert_eq!(verdict, Verdict::Leave("lease lost"));
    assert_eq!(world.call(key).await.lease.unwrap().token, held.lease.token());
    let go_on = CancellationToken::new();
    let handed_back = record(&other.context, &held, None, Ending::HandedBack, &go_on).await;
    assert_eq!(handed_back, Verdict::RetryAfter(Duration::ZERO));
    delivery.ack_confirmed().await.unwrap();
    drop((held, slow, other));
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_hands_its_job_back_uncharged() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "mode": "hang" })).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    let stop = CancellationToken::new();
    let stopping = async {
        until("the request", async || ai.stats().await.in_flight == 1).await;
        stop.cancel();
    };
    let (verdict, ()) = tokio::join!(async { steps::run(&hand.context, &job(key), &stop).await }, stopping);
    assert_eq!(verdict, Verdict::RetryAfter(Duration::ZERO));
    let call = world.call(key).await;
    assert_eq!((call.ai_status, call.attempts.charged), (AiStatus::RetryScheduled, 0));
    assert_eq!(attempts(&world, key).await, [(Some("handed_back".to_owned()), false)]);
    // What has not begun is not begun.
    assert_eq!(steps::run(&hand.context, &job(key), &stop).await, Verdict::RetryAfter(Duration::ZERO));
    assert_eq!(world.call(key).await, call);
    ai.control(json!({ "mode": "normal" })).await;
    assert_eq!(hand.run(&job(key)).await, Verdict::Done);
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn jobs_of_unknown_calls_and_earlier_generations_are_dropped() {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    let old = callfleet::wire::job::Job { generation: 0, ..job(key) };
    assert!(matches!(hand.run(&old).await, Verdict::Drop(_)));
    let unknown = callfleet::wire::job::Job { key: uuid::Uuid::new_v4(), ..job(key) };
    assert!(matches!(hand.run(&unknown).await, Verdict::Drop(_)));
    assert_eq!(ai.stats().await.requests, 0);
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}
