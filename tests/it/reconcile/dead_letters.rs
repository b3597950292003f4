//! Dead letters: table and stream, one to one.

use callfleet::domain::{CallKey, Class, Failure, Stage};
use callfleet::reconcile::{Compared, compare};
use callfleet::store::Session;
use callfleet::store::claim::{Claim, claim};
use callfleet::store::record::{Ending, Record, record};
use uuid::Uuid;

use crate::world::World;

async fn dead(world: &World, id: &str) -> CallKey {
    let key = world.completed(id).await;
    let (token, worker) = (Uuid::new_v4(), "w".into());
    let mut session = Session::new(world.store.clone());
    let wish = Claim { key, generation: 1, token, worker };
    world.relay.send(claim(&mut session, &[wish], None, &world.policy).await.unwrap().1);
    let failure = Failure::new(Class::Permanent, Stage::Ask, Some(422), "no");
    let ending = Ending::Failed { failure, delay: std::time::Duration::ZERO };
    let outcome = Record { key, token, worker: "w".into(), sent: None, ending };
    world.relay.send(record(&mut session, &[outcome.into()], &world.policy).await.unwrap().1);
    world.take_job().await.ack_confirmed().await.unwrap();
    key
}

#[tokio::test]
async fn a_wiped_stream_is_filled_again_and_strangers_are_deleted() {
    let world = World::new().await;
    for n in 0..3 {
        dead(&world, &format!("call {n}")).await;
    }
    world.until_messages("CALL_DLQ", 3).await;
    let together = || compare(&world.store, &world.broker, &world.relay);
    assert_eq!(together().await.unwrap(), Compared::default());

    world.publish("call.dlq.permanent.default.00000000000000000000000000000001.1", "{}").await;
    assert_eq!(together().await.unwrap(), Compared { sent_again: 0, deleted: 1 });
    world.until_messages("CALL_DLQ", 3).await;

    world.delete_stream("CALL_DLQ").await;
    callfleet::broker::topology::ensure(&world.broker).await.unwrap();
    assert_eq!(together().await.unwrap(), Compared { sent_again: 3, deleted: 0 });
    world.until_messages("CALL_DLQ", 3).await;
    assert_eq!(together().await.unwrap(), Compared::default());
    world.finish().await;
}
