//! From the outbox to the streams.

use std::time::Duration;

use callfleet::broker::feed::{self, Feed, FeedItem, Position};
use callfleet::broker::survey;
use callfleet::domain::{CallId, CallKey, Lane, State, Tenant};
use callfleet::relay;
use callfleet::store::outbox;
use callfleet::wire::outgoing::Outgoing;
use callfleet::wire::subject;
use tokio_util::sync::CancellationToken;

use crate::world::{World, nats};

/// The change that makes a call's version `version`.
fn change(version: usize) -> Outgoing {
    let tenant = Tenant::open_mode();
    let key = CallKey::derive(&tenant, &CallId::new("a").unwrap());
    Outgoing {
        msg_id: format!("state-{key}-{version}"),
        subject: subject::state(&tenant, State::InProgress, key),
        payload: version.to_string().into(),
        replaces: false,
    }
}

fn job(call_id: &str) -> Outgoing {
    let tenant = Tenant::open_mode();
    let key = CallKey::derive(&tenant, &CallId::new(call_id).unwrap());
    Outgoing {
        msg_id: format!("work-{key}"),
        subject: subject::work(Lane::Live, &tenant, key),
        payload: "{}".into(),
        replaces: false,
    }
}

/// Commits messages as the store does: in the transaction of what they announce.
async fn commit(world: &World, messages: &[Outgoing]) {
    let mut transaction = world.store.begin().await.unwrap();
    outbox::append(&mut transaction, messages, world.store.now()).await.unwrap();
    transaction.commit().await.unwrap();
}

/// As if the time in which the writer's own relay has them to itself were over.
async fn leave_behind(world: &World) {
    world.execute("UPDATE outbox SET available_at = available_at - interval '1 hour'").await.unwrap();
}

async fn jobs(world: &World) -> u64 {
    survey::take(&world.broker).await.unwrap().stream("CALL_WORK").map_or(0, |stream| stream.messages)
}

/// The versions that come next.
async fn versions(feed: &mut Feed, count: usize) -> Vec<usize> {
    let mut versions = Vec::new();
    while versions.len() < count {
        match tokio::time::timeout(Duration::from_secs(20), feed.next()).await.unwrap() {
            FeedItem::Message(message) => {
                versions.push(std::str::from_utf8(&message.payload).unwrap().parse().unwrap());
            }
            FeedItem::Up { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    versions
}

#[tokio::test]
async fn what_is_handed_over_goes_out_in_order_and_its_rows_go() {
    let world = World::new().await;
    let mut feed = feed::follow(&world.broker, Position::After(0));
    let all: Vec<_> = (1..=2000).map(change).collect();
    commit(&world, &all).await;
    for some in all.chunks(7) {
        world.relay.send(some.to_vec());
    }
    assert_eq!(versions(&mut feed, 2000).await, (1..=2000).collect::<Vec<_>>());
    // Jobs of no call.
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn what_nobody_handed_over_goes_out_in_order_too() {
    let world = World::new().await;
    let mut feed = feed::follow(&world.broker, Position::After(0));
    for some in (1..=2500).map(change).collect::<Vec<_>>().chunks(100) {
        commit(&world, some).await;
    }
    assert_eq!(relay::sweep(&world.store, &world.broker).await.unwrap(), 0, "their writers have them to themselves");
    leave_behind(&world).await;
    assert_eq!(versions(&mut feed, 2500).await, (1..=2500).collect::<Vec<_>>());
    // Jobs of no call.
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn a_relay_that_ends_between_publish_and_delete_is_made_up_for() {
    let world = World::new().await;
    let jobs_of_a_and_b = [job("a"), job("b")];
    commit(&world, &jobs_of_a_and_b).await;
    // The one that ended: published, and not deleted.
    assert!(world.broker.publish(&jobs_of_a_and_b).await.iter().all(Result::is_ok));
    leave_behind(&world).await;
    world.until("SELECT count(*) FROM outbox", 0).await;
    assert_eq!(jobs(&world).await, 2);
    // Jobs of no call.
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn two_relays_share_what_was_left_behind() {
    let world = World::new().await;
    let all: Vec<_> = (0..3000).map(|n| job(&format!("call {n}"))).collect();
    commit(&world, &all).await;
    leave_behind(&world).await;
    let (one, other) =
        tokio::join!(relay::sweep(&world.store, &world.broker), relay::sweep(&world.store, &world.broker));
    assert!(one.unwrap() + other.unwrap() <= 3000, "none goes out twice");
    world.until("SELECT count(*) FROM outbox", 0).await;
    assert_eq!(jobs(&world).await, 3000);
    // Jobs of no call.
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn a_stream_that_is_missing_is_made_and_nothing_is_lost() {
    let world = World::new().await;
    let outside = async_nats::jetstream::new(nats().await);
    outside.delete_stream(format!("{}_CALL_WORK", world.name)).await.unwrap();
    let all: Vec<_> = (0..100).map(|n| job(&format!("call {n}"))).collect();
    commit(&world, &all).await;
    world.relay.send(all);
    world.until("SELECT count(*) FROM outbox", 0).await;
    assert_eq!(jobs(&world).await, 100);
    // Jobs of no call.
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn a_relay_that_is_asked_to_stop_sends_what_it_was_handed_first() {
    let world = World::new().await;
    let (handle, messages) = relay::channel();
    let shutdown = CancellationToken::new();
    let all: Vec<_> = (0..2000).map(|n| job(&format!("call {n}"))).collect();
    commit(&world, &all).await;
    handle.send(all);
    shutdown.cancel();
    drop(handle);
    let relay = relay::run(world.store.clone(), world.broker.clone(), messages, shutdown);
    tokio::time::timeout(Duration::from_secs(20), relay).await.unwrap().unwrap();
    assert_eq!(world.value("SELECT count(*) FROM outbox").await, 0);
    assert_eq!(jobs(&world).await, 2000);
    // Jobs of no call.
    world.purge("CALL_WORK").await;
    world.finish().await;
}
