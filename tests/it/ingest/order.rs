//! Packets in any order end in the same call.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::client::{get, packet};
use crate::world::World;

#[test]
fn packets_in_every_order_end_in_the_same_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (world, doors) = runtime.block_on(async {
        let mut world = World::new().await;
        let doors = world.ingest();
        (world, doors)
    });
    let sent = (1..9_i64).collect::<Vec<_>>();
    let case = std::sync::atomic::AtomicU32::new(0);
    // Each packet once or twice, in any order.
    let orders = (Just(sent).prop_shuffle(), proptest::collection::vec(0..8_usize, 0..6));
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    runner
        .run(&orders, |(order, again)| {
            let call = format!("c{}", case.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            let again: Vec<i64> = again.into_iter().map(|i| order[i]).collect();
            let view = runtime.block_on(async {
                for sequence in order.iter().chain(&again) {
                    packet(&doors, &call, *sequence, &format!("text {sequence}")).await;
                }
                get(&doors, &format!("/v1/call/{call}")).await.json
            });
            prop_assert_eq!(&view["packets"]["received"], 8);
            prop_assert_eq!(&view["packets"]["last_sequence"], 8);
            prop_assert_eq!(&view["packets"]["missing"], &serde_json::json!([]));
            prop_assert_eq!(&view["packets"]["duplicates"], again.len());
            prop_assert_eq!(&view["version"], 1);
            Ok(())
        })
        .unwrap();
    drop(doors);
    runtime.block_on(world.finish());
}
