//! Failures, delays and giving up, on a controlled clock.

use std::time::Duration;

use callfleet::ai::Verdict;
use callfleet::ai::backoff::{JITTER, LATER};
use callfleet::domain::{AiStatus, State};
use serde_json::json;

use super::scene::{Ai, Hand, attempts, charged, job};
use crate::world::World;

fn around(seconds: u64) -> std::ops::RangeInclusive<Duration> {
    let delay = Duration::from_secs(seconds);
    delay.mul_f64(1.0 - JITTER)..=delay.mul_f64(1.0 + JITTER)
}

/// The service fails `failures` times; what comes of the call, and after which delays.
async fn fails(failures: usize) {
    let world = World::new().await;
    let ai = Ai::start(json!({ "fail_first": failures })).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    let job = delivery.job.clone().unwrap();

    for (failed, seconds) in (0..failures.min(4)).zip([1, 2, 4, 8]) {
        let Verdict::RetryAfter(delay) = hand.run(&job).await else { panic!("attempt {failed}") };
        assert!(around(seconds).contains(&delay), "{delay:?} is not about {seconds} s");
        let call = world.call(key).await;
        assert_eq!((call.state, call.ai_status), (State::Failed, AiStatus::RetryScheduled));
        // Delivered early, it is not begun.
        world.advance(delay.saturating_sub(Duration::from_millis(500)));
        let Verdict::RetryAfter(rest) = hand.run(&job).await else { panic!("early") };
        assert!(rest <= Duration::from_millis(500));
        assert_eq!(world.call(key).await.attempts.total(), call.attempts.total());
        world.advance(rest);
    }
    let last = hand.run(&job).await;
    let call = world.call(key).await;
    if failures < 5 {
        assert_eq!(last, Verdict::Done);
        assert_eq!((call.state, call.ai_status), (State::Archived, AiStatus::Succeeded));
        let transcript: String = sqlx::query_scalar("SELECT transcript FROM ai_results WHERE call_id = 'c'")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(transcript, "word1 word2 word3");
    } else {
        assert_eq!(last, Verdict::Dead);
        assert_eq!((call.state, call.ai_status), (State::Failed, AiStatus::DeadLettered));
        world.until_messages("CALL_DLQ", 1).await;
        assert_eq!(hand.run(&job).await, Verdict::Drop("the call needs no attempt"));
    }
    let mut expected = vec!["transient"; failures.min(5)];
    expected.extend((failures < 5).then_some("done"));
    assert_eq!(attempts(&world, key).await, charged(&expected));
    assert_eq!(ai.stats().await.requests, expected.len() as u64);
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn a_service_that_never_fails_is_asked_once() {
    fails(0).await;
}

#[tokio::test]
async fn a_service_that_fails_once_is_asked_again_after_a_second() {
    fails(1).await;
}

#[tokio::test]
async fn a_service_that_fails_twice_is_asked_again_after_two_seconds() {
    fails(2).await;
}

#[tokio::test]
async fn a_service_that_fails_three_times_is_asked_again_after_four_seconds() {
    fails(3).await;
}

#[tokio::test]
async fn a_service_that_fails_four_times_is_asked_a_last_time_after_eight_seconds() {
    fails(4).await;
}

#[tokio::test]
async fn a_call_is_given_up_after_five_failures() {
    fails(5).await;
}

#[tokio::test]
async fn a_busy_service_is_waited_for_and_a_refused_account_parks_the_call_both_uncharged() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "mode": "rate_limit", "retry_after_s": 7 })).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let key = world.completed("c").await;
    let delivery = world.take_job().await;

    let Verdict::RetryAfter(delay) = hand.run(&job(key)).await else { panic!("busy") };
    let told = Duration::from_secs(7);
    assert!((told..=told.mul_f64(1.0 + LATER)).contains(&delay), "{delay:?}");
    ai.control(json!({ "mode": "unauthorized" })).await;
    world.advance(delay);
    let Verdict::Park(parked) = hand.run(&job(key)).await else { panic!("account") };
    assert_eq!(parked, Duration::from_mins(2));
    // It waits in the database alone; a message that comes all the same is parked too.
    assert!(matches!(hand.run(&job(key)).await, Verdict::Park(_)));
    ai.control(json!({ "mode": "normal" })).await;
    world.advance(parked);
    assert_eq!(hand.run(&job(key)).await, Verdict::Done);

    let uncharged = |class: &str| (Some(class.to_owned()), false);
    let expected = [uncharged("busy"), uncharged("account"), (Some("done".to_owned()), true)];
    assert_eq!(attempts(&world, key).await, expected);
    let call = world.call(key).await;
    assert_eq!((call.attempts.charged, call.attempts.uncharged), (1, 2));
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn the_third_unreadable_answer_gives_a_call_up() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "mode": "garbage" })).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    for _ in 0..2 {
        let Verdict::RetryAfter(delay) = hand.run(&job(key)).await else { panic!("a retry is left") };
        world.advance(delay);
    }
    assert_eq!(hand.run(&job(key)).await, Verdict::Dead);
    assert_eq!(attempts(&world, key).await, charged(&["invalid"; 3]));
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}
