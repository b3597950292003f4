//! A relay that comes late: its process was stopped between the commit and the publication.

use callfleet::domain::{CallId, CallKey, Tenant};
use callfleet::relay;
use callfleet::store::outbox;
use callfleet::wire::outgoing::Outgoing;
use tokio_util::sync::CancellationToken;

use crate::wait::{soon, until};
use crate::world::World;

#[tokio::test]
async fn a_relay_that_wakes_late_announces_nothing_that_others_have_dealt_with() {
    let world = World::new().await;
    let tenant = Tenant::open_mode();
    let key = CallKey::derive(&tenant, &CallId::new("a").unwrap());
    let letter = Outgoing {
        msg_id: format!("dlq-{key}-1"),
        subject: format!("call.dlq.permanent.default.{key}.1"),
        payload: "{}".into(),
        replaces: false,
    };
    let mut tx = world.store.begin().await.unwrap();
    outbox::append(&mut tx, std::slice::from_ref(&letter), world.store.now()).await.unwrap();
    tx.commit().await.unwrap();
    let (handle, messages) = relay::channel();
    handle.send(vec![letter]);
    drop(handle);
    // Meanwhile another process announces it, and somebody deals with it.
    world.until("SELECT count(*) FROM outbox", 0).await;
    until("the letter", async || world.messages("CALL_DLQ").await == 1).await;
    world.delete_stream("CALL_DLQ").await;
    callfleet::broker::topology::ensure(&world.broker).await.unwrap();

    let shutdown = CancellationToken::new();
    let late = relay::run(world.store.clone(), world.broker.clone(), messages, shutdown.clone());
    shutdown.cancel();
    soon("the late relay's end", late).await.unwrap();
    assert_eq!(world.messages("CALL_DLQ").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn what_a_full_stream_refused_goes_out_soon_after_it_has_room() {
    let world = World::new().await;
    let mut stream = world.jetstream().await.get_stream(world.stream("CALL_WORK")).await.unwrap();
    let config = stream.info().await.unwrap().config.clone();
    let full = async_nats::jetstream::stream::Config { max_bytes: 1, ..config.clone() };
    world.jetstream().await.update_stream(full).await.unwrap();
    let key = world.completed("a").await;
    // It has been tried by its own relay and by a sweep.
    let kept = "SELECT count(*) FROM outbox WHERE available_at > created_at + interval '6 seconds'";
    world.until(kept, 1).await;
    world.jetstream().await.update_stream(config).await.unwrap();
    let began = std::time::Instant::now();
    let delivery = world.take_job().await;
    assert_eq!(delivery.job.as_ref().unwrap().call_key(), key);
    println!("a full stream has room: the job comes after {:.1?}", began.elapsed());
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    delivery.ack_confirmed().await.unwrap();
    world.finish().await;
}
