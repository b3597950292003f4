//! A consumer that delivers nothing although jobs wait.

use callfleet::broker::{Finding, Stall};
use callfleet::domain::{Lane, State};
use serde_json::json;

use crate::up::fleet::Fleet;
use crate::up::pbx::Pbx;
use crate::wait::until;
use crate::world::World;

#[tokio::test]
async fn a_consumer_that_stalls_turns_its_worker_red_and_is_made_anew_by_it() {
    let mut fleet = Fleet::bare().await;
    fleet.start("mock-ai").await;
    let pbx = Pbx::of(&fleet.start("ingest").await);
    let mut worker = fleet.program("ai-worker");
    let health = Pbx::of(&worker.address().await);
    pbx.whole_call("a", 2).await;
    until("archived", async || pbx.state("a").await == "ARCHIVED").await;

    let nats = super::nats_faults::client(fleet.servers.nats.url()).await;
    let pause = json!({ "pause_until": "2199-01-01T00:00:00Z" }).to_string();
    nats.request("$JS.API.CONSUMER.PAUSE.CALL_WORK.live", pause.into()).await.unwrap();
    // Nothing waits: nothing is wrong.
    assert_eq!(health.get("/readyz").await.0, 200);
    let began = std::time::Instant::now();
    pbx.whole_call("b", 2).await;
    until("red", async || {
        let (status, said) = health.get("/readyz").await;
        status == 503 && said.contains("jobs wait and none is delivered")
    })
    .await;
    let red = began.elapsed();
    worker.says("was made anew").await;
    until("archived", async || pbx.state("b").await == "ARCHIVED").await;
    println!("a stalled consumer: red after {red:.1?}, moving again after {:.1?}", began.elapsed());
    until("green", async || health.get("/readyz").await.0 == 200).await;
    let (_, metrics) = health.get("/metrics").await;
    assert!(metrics.contains("callfleet_consumers_made_anew_total{lane=\"live\"} 1"), "{metrics}");
    worker.terminate().await;
    fleet.balances(&pbx, 2).await;
    fleet.finish().await;
}

#[tokio::test]
async fn a_consumer_made_anew_delivers_what_was_in_hand_and_old_acknowledgements_count() {
    let world = World::new().await;
    world.completed("a").await;
    world.completed("b").await;
    world.until_relayed().await;
    let former = [world.take_job().await, world.take_job().await];
    let consumer = world.broker.consumer(Lane::Live);
    let look = consumer.look().await.unwrap();
    // They are in hand: nothing waits.
    assert_eq!(Stall::default().note(look.clone()), Finding::Moves);
    consumer.make_anew(&look).await.unwrap();
    // Whoever saw the former one changes nothing.
    let anew = consumer.look().await.unwrap();
    consumer.make_anew(&look).await.unwrap();
    assert_eq!(consumer.look().await.unwrap(), anew);
    assert_eq!(anew.pending(), 2);

    // Said too early, it is not heard: both come again.
    former[0].ack().await.unwrap();
    let again = [world.take_job().await, world.take_job().await];
    // Now it is, whoever says it.
    for delivery in &former {
        delivery.ack_confirmed().await.unwrap();
    }
    until("the stream is empty", async || world.messages("CALL_WORK").await == 0).await;
    for delivery in &again {
        assert_eq!(world.call(delivery.job.as_ref().unwrap().call_key()).await.state, State::Completed);
        delivery.ack().await.unwrap();
    }
    world.finish().await;
}

#[tokio::test]
async fn an_idle_worker_and_one_whose_service_is_down_are_ready() {
    let mut fleet = Fleet::bare().await;
    let ai = Pbx::of(&fleet.start("mock-ai").await);
    let pbx = Pbx::of(&fleet.start("ingest").await);
    let worker = Pbx::of(&fleet.start("ai-worker").await);
    until("ready", async || worker.get("/readyz").await.0 == 200).await;
    ai.control(json!({ "mode": "outage" })).await;
    pbx.whole_call("a", 2).await;
    until("failures", async || {
        assert_eq!(worker.get("/readyz").await.0, 200);
        pbx.call("a").await["attempts"].as_u64().unwrap() >= 2
    })
    .await;
    ai.control(json!({ "mode": "normal" })).await;
    until("archived", async || pbx.state("a").await == "ARCHIVED").await;
    fleet.balances(&pbx, 1).await;
    fleet.finish().await;
}
