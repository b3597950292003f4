//! The spool takes over and hands back.

use std::time::Duration;

use crate::jetstream::{self, SPOOL};
use crate::proxy::Wire;
use crate::roles::{Kind, To};
use crate::scene::Scene;
use crate::stop::{Outcome, Stop, expect};
use crate::wait;

/// Time for the first packets to be spooled.
const SPOOL_DEADLINE: Duration = Duration::from_secs(6);

/// Cuts every wire to PostgreSQL and waits until packets are in the spool.
async fn until_spooling(scene: &mut Scene) -> Outcome {
    scene.one_store_down(true);
    scene.stack.wire_all(To::Postgres, Wire::Cut);
    let spooled =
        wait::until(SPOOL_DEADLINE, async || scene.messages(SPOOL).await.is_some_and(|count| count > 0)).await;
    let stream = jetstream::stream(scene.stack.nats.client(), SPOOL).await.map_err(Stop::from)?;
    expect(spooled, || match stream {
        None => format!("packets are not spooled while PostgreSQL is away: there is no stream {SPOOL}"),
        Some(_) => format!("packets are not spooled while PostgreSQL is away: {SPOOL} stays empty"),
    })
}

fn whole_again(scene: &mut Scene) {
    scene.stack.wire_all(To::Postgres, Wire::Whole);
    scene.one_store_down(false);
    scene.healed();
}

pub(super) async fn switch(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    let spooling = until_spooling(scene).await;
    if spooling.is_ok() {
        // Its clients lose their connections, which is no refusal of the other one's.
        scene.one_store_down(false);
        scene.role(place)?.kill().await?;
        scene.hold_ms(500..1500).await;
    }
    whole_again(scene);
    if spooling.is_ok() {
        scene.role(place)?.start()?;
    }
    spooling
}

pub(super) async fn drain(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    let spooling = until_spooling(scene).await;
    scene.hold_ms(2000..4000).await;
    whole_again(scene);
    spooling?;
    // While the spool is being drained, if it takes long enough to be seen.
    scene.hold_ms(0..150).await;
    scene.role(place)?.kill().await?;
    scene.hold_ms(300..1000).await;
    scene.role(place)?.start()?;
    Ok(())
}

pub(super) async fn flap(scene: &mut Scene) -> Outcome {
    let spooling = until_spooling(scene).await;
    for _ in 0..5 {
        scene.stack.wire_all(To::Postgres, Wire::Whole);
        scene.hold_ms(100..800).await;
        scene.stack.wire_all(To::Postgres, Wire::Cut);
        scene.hold_ms(300..1500).await;
    }
    whole_again(scene);
    spooling
}
