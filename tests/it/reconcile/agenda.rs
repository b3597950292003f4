//! Settling, idling, and everything else that only time does.

use std::time::Duration;

use callfleet::domain::{AiStatus, State};
use callfleet::reconcile::{Report, tick};

use crate::world::World;

pub(super) async fn look(world: &World) -> Report {
    tick(&world.store, &world.broker, &world.relay, &world.policy).await.unwrap()
}

async fn reason(world: &World, version: i32) -> String {
    sqlx::query_scalar("SELECT reason FROM transitions WHERE version = $1")
        .bind(version)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_ended_call_with_gaps_completes_when_it_has_settled_and_not_before() {
    let world = World::new().await;
    let key = world.open("c", &[1, 2, 5]).await;
    world.end(key, Some(6)).await;
    assert_eq!(look(&world).await, Report::default());
    world.advance(world.policy.settle.saturating_sub(Duration::from_millis(500)));
    world.packets(key, &[3]).await;
    assert_eq!(look(&world).await, Report::default());
    world.advance(Duration::from_millis(500));
    assert_eq!(look(&world).await, Report { looked_at: 1, completed: 1, ..Report::default() });
    let call = world.call(key).await;
    assert_eq!((call.state, call.ai_status), (State::Completed, AiStatus::Pending));
    assert_eq!(reason(&world, 2).await, "settled");
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_call_without_an_end_completes_when_its_last_packet_is_long_ago() {
    let world = World::new().await;
    world.is_storing().await;
    let key = world.open("c", &[1]).await;
    let idle = world.policy.idle_timeout;
    world.advance(idle / 2);
    world.packets(key, &[2]).await;
    world.advance(idle / 2);
    // Due by its first packet, but not by its last.
    assert_eq!(look(&world).await, Report { looked_at: 1, postponed: 1, ..Report::default() });
    assert_eq!(look(&world).await, Report::default());
    world.advance(idle / 2);
    assert_eq!(look(&world).await, Report { looked_at: 1, completed: 1, ..Report::default() });
    assert_eq!(reason(&world, 2).await, "idle");
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_call_that_is_whole_completes_as_soon_as_it_is_looked_at() {
    let world = World::new().await;
    let key = world.open("c", &[1, 2, 3]).await;
    world.end(key, Some(3)).await;
    sqlx::query("UPDATE calls SET reconcile_at = created_at").execute(&world.pool).await.unwrap();
    assert_eq!(look(&world).await.completed, 1);
    assert_eq!(reason(&world, 2).await, "ended and whole");
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn an_end_signal_that_comes_during_a_look_is_not_put_off() {
    let world = World::new().await;
    let key = world.open("c", &[1]).await;
    let read = world.call(key).await;
    let end = world.end(key, None).await;
    let far = read.created_at + world.policy.idle_timeout;
    let put_off = callfleet::store::agenda::postpone(&world.store, &[(&read, far)]).await.unwrap();
    assert!(put_off.is_empty());
    let settled_at = end.at + world.policy.settle;
    let due = world.call(key).await.reconcile_at.unwrap();
    assert!((due - settled_at).abs() < chrono::TimeDelta::milliseconds(1), "{due} is not {settled_at}");
    world.advance(world.policy.settle);
    assert_eq!(look(&world).await.completed, 1);
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn many_reconcilers_at_once_complete_each_call_once() {
    let world = World::new().await;
    for n in 0..40 {
        let key = world.open(&format!("call {n}"), &[1]).await;
        world.end(key, None).await;
    }
    world.advance(world.policy.settle);
    let looks = futures_util::future::join_all((0..6).map(|_| look(&world))).await;
    assert_eq!(looks.iter().map(|report| report.completed).sum::<usize>(), 40);
    assert_eq!(world.count("SELECT count(*) FROM transitions WHERE to_state = 'COMPLETED'").await, 40);
    world.until_relayed().await;
    assert_eq!(world.messages("CALL_WORK").await, 40);
    world.purge("CALL_WORK").await;
    world.finish().await;
}

#[tokio::test]
async fn the_sweep_puts_back_what_fell_off_the_agenda_and_leaves_the_rest() {
    let world = World::new().await;
    let in_progress = world.open("in progress", &[1]).await;
    let waiting = world.completed("waiting").await;
    world.take_job().await.ack_confirmed().await.unwrap();
    assert_eq!(callfleet::store::agenda::sweep(&world.store).await.unwrap(), 0);
    sqlx::query("UPDATE calls SET reconcile_at = NULL").execute(&world.pool).await.unwrap();
    assert_eq!(callfleet::store::agenda::sweep(&world.store).await.unwrap(), 2);
    let report = look(&world).await;
    assert_eq!((report.looked_at, report.postponed, report.reissued), (2, 1, 1));
    assert!(world.call(in_progress).await.reconcile_at.is_some());
    assert!(world.call(waiting).await.reconcile_at.is_some());
    world.take_job().await.ack_confirmed().await.unwrap();
    world.finish().await;
}
