//! Many jobs at once share transactions.

use callfleet::ai::Verdict;
use callfleet::domain::State;
use serde_json::json;

use super::scene::{Ai, Hand, job};
use crate::world::World;

#[tokio::test]
async fn many_jobs_share_transactions_and_each_ends_as_it_should() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "latency_ms": 20 })).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let mut keys = Vec::new();
    for n in 0..60 {
        keys.push(world.completed(&format!("call {n}")).await);
    }
    let jobs: Vec<_> = keys.iter().map(|key| job(*key)).collect();
    let verdicts = futures_util::future::join_all(jobs.iter().map(|job| hand.run(job))).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Done), "{verdicts:?}");
    for key in &keys {
        assert_eq!(world.call(*key).await.state, State::Archived);
    }
    assert_eq!(world.count("SELECT count(*) FROM results").await, 60);
    // A claim's time is that of its transaction.
    let transactions = world.count("SELECT count(DISTINCT started_at) FROM attempts").await;
    assert!(transactions < 30, "60 claims took {transactions} transactions");
    for _ in &keys {
        world.take_job().await.ack_confirmed().await.unwrap();
    }
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_never_fails_its_neighbours() {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    let hand = Hand::new(&world, "w1", ai.address);
    let (good, bad) = (world.completed("good").await, world.completed("bad").await);
    sqlx::query("UPDATE calls SET call_id = E'control \\x01' WHERE key = $1")
        .bind(bad.as_uuid())
        .execute(&world.pool)
        .await
        .unwrap();
    let (good_job, bad_job) = (job(good), job(bad));
    let (good_verdict, bad_verdict) = tokio::join!(hand.run(&good_job), hand.run(&bad_job));
    assert_eq!(good_verdict, Verdict::Done);
    assert!(matches!(bad_verdict, Verdict::RetryAfter(_)), "{bad_verdict:?}");
    for _ in 0..2 {
        world.take_job().await.ack_confirmed().await.unwrap();
    }
    drop(hand);
    world.finish().await;
}
