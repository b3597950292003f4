//! Commits whose answer never came: nobody can tell, and trying again must find out.

use callfleet::ai::Verdict;
use callfleet::domain::{AiStatus, State};
use callfleet::store::{Options, Purpose, Store};
use serde_json::json;

use super::wire::{Wire, server};
use crate::ai::scene::{Ai, Hand, attempts, charged, job};
use crate::ingest::client::packet;
use crate::world::{World, database};

async fn far(world: &World) -> (Wire, Store) {
    let wire = Wire::to(&server(&world.database_url)).await;
    let options: Options = database(&wire.through(&world.database_url));
    let store = Store::connect(&options, "far", Purpose::Role).await.unwrap();
    (wire, store)
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_taken_up_and_counted_once() {
    let world = World::new().await;
    let ai = Ai::start(json!({})).await;
    let (wire, store) = far(&world).await;
    let hand = Hand::over(&world, store, "w1", ai.address);
    let key = world.completed("c").await;
    let delivery = world.take_job().await;
    wire.lose_the_next_answer_to_a_commit();
    assert_eq!(hand.run(&job(key)).await, Verdict::Done);
    assert!(wire.has_lost_it());
    assert_eq!(attempts(&world, key).await, charged(&["done"]));
    let call = world.call(key).await;
    assert_eq!((call.state, call.attempts.charged, call.version), (State::Archived, 1, 4));
    assert_eq!(ai.stats().await.requests, 1);
    delivery.ack_confirmed().await.unwrap();
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_found_and_its_verdict_carried_out() {
    let world = World::new().await;
    let ai = Ai::start(json!({ "latency_ms": 200 })).await;
    let (wire, store) = far(&world).await;
    let hand = Hand::over(&world, store, "w1", ai.address);
    for (mode, failure_rate, status) in
        [("normal", 0.0, AiStatus::Succeeded), ("normal", 1.0, AiStatus::RetryScheduled)]
    {
        ai.control(json!({ "mode": mode, "failure_rate": failure_rate })).await;
        let key = world.completed(&format!("call {failure_rate}")).await;
        let delivery = world.take_job().await;
        let job = job(key);
        let lose = async {
            // The claim is through: what commits next is the record.
            world.until_state(key, State::ProcessingAi).await;
            wire.lose_the_next_answer_to_a_commit();
        };
        let (verdict, ()) = tokio::join!(hand.run(&job), lose);
        assert!(wire.has_lost_it());
        match status {
            AiStatus::Succeeded => assert_eq!(verdict, Verdict::Done),
            _ => assert!(matches!(verdict, Verdict::RetryAfter(_)), "{verdict:?}"),
        }
        assert_eq!(world.call(key).await.ai_status, status);
        assert_eq!(attempts(&world, key).await.len(), 1);
        delivery.ack_confirmed().await.unwrap();
    }
    drop(hand);
    world.finish().await;
}

#[tokio::test]
async fn a_packet_whose_commit_had_no_answer_is_stored_once() {
    let mut world = World::new().await;
    let (wire, store) = far(&world).await;
    let near = std::mem::replace(&mut world.store, store);
    let doors = world.ingest();
    world.store = near;
    for sequence in 1..=3 {
        wire.lose_the_next_answer_to_a_commit();
        let answer = packet(&doors, "c", sequence, "text").await;
        assert_eq!(answer.status, 202, "{}", answer.json);
        assert!(wire.has_lost_it());
    }
    assert_eq!(world.count("SELECT count(*) FROM packets").await, 3);
    assert_eq!(world.count("SELECT count(*) FROM transitions").await, 1);
    drop(doors);
    world.finish().await;
}
